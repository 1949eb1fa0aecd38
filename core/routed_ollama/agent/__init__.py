"""Agents on the core alone: a role, a router and the official Ollama client; no framework need be installed.

    from routed_ollama import TaskType, create_agent

    agent = create_agent("developer")
    print(agent.generate("Write a REST API endpoint", task_type=TaskType.CODING))

The official client is the extra ``agent``. It is imported when the first agent is made.
"""

from routed_ollama.agent._answer import AgentResponse
from routed_ollama.agent._conversation import Turn
from routed_ollama.agent._create import create_agent
from routed_ollama.agent._interface import AgentInterface, EnhancedAgentInterface

__all__ = ["AgentInterface", "AgentResponse", "EnhancedAgentInterface", "Turn", "create_agent"]
