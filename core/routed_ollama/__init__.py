"""A framework-agnostic router over the chat models of one or many Ollama servers."""
