"""The tables, as numbered steps. Steps are only ever added: what is here has been applied on somebody's disk."""

from __future__ import annotations

LOG = "routed_ollama_migrations"
"""The table that says which steps were applied, and when."""

CREATE_LOG = f"""
CREATE TABLE IF NOT EXISTS {LOG} (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at REAL NOT NULL
)
"""

MIGRATIONS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "outcomes",
        (
            """
            CREATE TABLE outcome (
                id INTEGER PRIMARY KEY,
                at REAL NOT NULL,
                model TEXT NOT NULL,
                host TEXT NOT NULL,
                kind TEXT NOT NULL,
                task_type TEXT NOT NULL,
                response_time REAL,
                load_seconds REAL,
                first_token_seconds REAL,
                prompt_tokens INTEGER,
                prompt_seconds REAL,
                output_tokens INTEGER,
                output_seconds REAL,
                total_seconds REAL,
                quality REAL,
                error TEXT,
                failure TEXT,
                request_id TEXT,
                was_resident INTEGER,
                estimated INTEGER
            )
            """,
            "CREATE INDEX outcome_at ON outcome (at)",
            "CREATE INDEX outcome_request ON outcome (request_id) WHERE request_id IS NOT NULL",
        ),
    ),
    2: (
        "state",
        ("CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL, saved_at REAL NOT NULL) WITHOUT ROWID",),
    ),
    3: (
        "feedback that came before its outcome",
        ("CREATE TABLE feedback (request_id TEXT PRIMARY KEY, quality REAL NOT NULL, at REAL NOT NULL) WITHOUT ROWID",),
    ),
    4: ("who judged", ("ALTER TABLE outcome ADD COLUMN judged INTEGER",)),
    5: ("whether an answer has the form that was asked for", ("ALTER TABLE outcome ADD COLUMN fits INTEGER",)),
}
"""Number to name and statements."""
