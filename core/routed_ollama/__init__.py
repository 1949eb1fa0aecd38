"""A framework-agnostic router over the chat models of one or many Ollama servers.

    from routed_ollama import Router

    router = Router()                              # every chat model installed on the local Ollama
    router.recommend_model("Debug this error").model

The adapters ``langchain_routed_ollama`` and ``llamaindex_routed_ollama`` import nothing but the names below.
"""

from routed_ollama._decision import Hints
from routed_ollama._defaults import (
    EnhancedOllamaManager,
    OllamaManager,
    default_router,
    get_model_recommendations,
    health_check_models,
    set_default_router,
)
from routed_ollama._version import __version__
from routed_ollama.adapters import OwnRouter, given_router, router_of, scope_of, server_urls
from routed_ollama.agent import AgentInterface, AgentResponse, EnhancedAgentInterface, create_agent
from routed_ollama.analysis import analyze, estimate_tokens
from routed_ollama.catalog import Catalog, with_tag
from routed_ollama.clients import ClientSettings
from routed_ollama.config import RouterConfig, default_host, normalize_host
from routed_ollama.conversations import Conversations, fingerprint
from routed_ollama.errors import (
    AllModelsFailedError,
    ConfigurationError,
    ContextLengthError,
    DeadlineExceededError,
    EmptyAnswerError,
    HostUnreachableError,
    InvalidAnswerError,
    ModelFailure,
    ModelNotInstalledError,
    NoModelError,
    PromptCutError,
    RepetitiveAnswerError,
    RoutedOllamaError,
    RoutedOllamaWarning,
    StoreError,
    TruncatedStreamError,
    describe,
)
from routed_ollama.fallback import (
    MEANINGS,
    Attempt,
    AttemptPlan,
    ChunkView,
    FailureKind,
    OfferedTools,
    acall,
    astream,
    call,
    classify,
    continuation_messages,
    stream,
)
from routed_ollama.health import HealthMonitor
from routed_ollama.hints import (
    checked_prefer,
    checked_task_type,
    current_hints,
    hinting,
    request_hints,
    routing,
    warn_unknown,
)
from routed_ollama.outcomes import RunningRequest, RunningRequests, attempt_mark, bounded, request_sent, seconds
from routed_ollama.performance import PerformanceHistory
from routed_ollama.quality import assess_quality
from routed_ollama.roles import ROLES, Role
from routed_ollama.router import Router
from routed_ollama.scoring import score_models
from routed_ollama.store import Store, open_store
from routed_ollama.transport import Timeouts, attempt_bounds, build_transport
from routed_ollama.types import (
    AttemptRecord,
    Candidate,
    CircuitState,
    Complexity,
    HealthStatus,
    Message,
    MidStream,
    ModelCapability,
    ModelInfo,
    ModelPerformance,
    ModelScore,
    Needs,
    Outcome,
    OutcomeKind,
    Prediction,
    Prefer,
    Recommendation,
    Refusal,
    Residency,
    TaskCharacteristics,
    TaskType,
)

__all__ = [
    "MEANINGS",
    "ROLES",
    "AgentInterface",
    "AgentResponse",
    "AllModelsFailedError",
    "Attempt",
    "AttemptPlan",
    "AttemptRecord",
    "Candidate",
    "Catalog",
    "ChunkView",
    "CircuitState",
    "ClientSettings",
    "Complexity",
    "ConfigurationError",
    "ContextLengthError",
    "Conversations",
    "DeadlineExceededError",
    "EmptyAnswerError",
    "EnhancedAgentInterface",
    "EnhancedOllamaManager",
    "FailureKind",
    "HealthMonitor",
    "HealthStatus",
    "Hints",
    "HostUnreachableError",
    "InvalidAnswerError",
    "Message",
    "MidStream",
    "ModelCapability",
    "ModelFailure",
    "ModelInfo",
    "ModelNotInstalledError",
    "ModelPerformance",
    "ModelScore",
    "Needs",
    "NoModelError",
    "OfferedTools",
    "OllamaManager",
    "Outcome",
    "OutcomeKind",
    "OwnRouter",
    "PerformanceHistory",
    "Prediction",
    "Prefer",
    "PromptCutError",
    "Recommendation",
    "Refusal",
    "RepetitiveAnswerError",
    "Residency",
    "Role",
    "RoutedOllamaError",
    "RoutedOllamaWarning",
    "Router",
    "RouterConfig",
    "RunningRequest",
    "RunningRequests",
    "Store",
    "StoreError",
    "TaskCharacteristics",
    "TaskType",
    "Timeouts",
    "TruncatedStreamError",
    "__version__",
    "acall",
    "analyze",
    "assess_quality",
    "astream",
    "attempt_bounds",
    "attempt_mark",
    "bounded",
    "build_transport",
    "call",
    "checked_prefer",
    "checked_task_type",
    "classify",
    "continuation_messages",
    "create_agent",
    "current_hints",
    "default_host",
    "default_router",
    "describe",
    "estimate_tokens",
    "fingerprint",
    "get_model_recommendations",
    "given_router",
    "health_check_models",
    "hinting",
    "normalize_host",
    "open_store",
    "request_hints",
    "request_sent",
    "router_of",
    "routing",
    "scope_of",
    "score_models",
    "seconds",
    "server_urls",
    "set_default_router",
    "stream",
    "warn_unknown",
    "with_tag",
]
