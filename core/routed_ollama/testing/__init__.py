"""Ollama test server."""
