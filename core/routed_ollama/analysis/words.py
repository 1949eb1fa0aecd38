"""The words the analysis listens for, in groups. Law: data only, lower case, no punctuation.

The groups are rules of thumb of our own, not learned. A word may stand in several groups; what a group's presence
means is decided in ``task_type`` and ``demands``.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MAKE: Final = _words(
    "write create implement build generate make develop convert translate rewrite refactor optimize "
    "optimise add provide give complete extend modify port scaffold set setup integrate draft produce"
)
"""Verbs that ask for something to be made."""

CODE: Final = _words(
    "function functions method methods class classes script scripts api apis endpoint endpoints regex query queries "
    "algorithm algorithms app application library package module component components loop array arrays dict "
    "dictionary string strings list tuple integer integers boolean variable variables parameter parameters object "
    "objects constructor interface struct pointer enum generics template callback async await thread lambda "
    "decorator iterator recursion recursive cli sdk frontend backend website webpage database table dataframe "
    "json xml yaml csv http url server client parser compiler syntax snippet code program column button widget "
    "form file files directory repo repository commit branch merge migration schema index orm cron subarray matrix"
)
"""Nouns of programming. Several mean something else elsewhere, so that one alone says little."""

STRONG_CODE: Final = _words(
    "function regex api endpoint dataframe struct enum async await lambda decorator constructor subarray codebase "
    "refactor backend frontend sdk orm json algorithm script webhook middleware boilerplate stdin stdout "
    "programmatically crud oauth jwt websocket leetcode pseudocode"
)
"""Nouns that hardly occur outside programming."""

TECH: Final = _words(
    "python javascript typescript java kotlin swift golang rust ruby php perl scala haskell matlab c++ c# .net asp.net "
    "cpp csharp sql mysql postgres postgresql sqlite mongodb redis html css scss sass bash powershell shell vba "
    "react reactjs vue vuejs vue.js angular angularjs svelte nextjs next.js node nodejs node.js npm webpack vite "
    "jquery django flask fastapi rails laravel spring springboot hibernate numpy pandas matplotlib tensorflow "
    "pytorch keras sklearn scikit-learn opencv docker dockerfile kubernetes k8s helm terraform ansible nginx "
    "apache linux ubuntu debian windows macos android ios flutter dart xcode gradle maven git github gitlab "
    "jenkins aws azure gcp lambda s3 firebase graphql grpc kafka rabbitmq elasticsearch spark hadoop arduino "
    "verilog vhdl fortran cobol delphi pascal lua julia unity unreal excel wpf xaml razor linq qt cuda latex "
    "selenium langchain ollama llamaindex vscode intellij visual-studio axios express mongoose typeorm prisma "
    "js ts tsx jsx elixir erlang clojure ocaml zig f# tailwind nestjs nuxt redux zustand supabase localstorage pygame "
    "tkinter pyqt asyncio pydantic sqlalchemy celery polars scipy streamlit gradio jupyter airflow dbt bigquery duckdb "
    "mariadb plsql dynamodb clickhouse neo4j systemd cron crontab ffmpeg awk jq curl argocd istio prometheus grafana "
    "github-actions gitlab-ci makefile cmake esp32 raspberry micropython godot wordpress tidyverse ggplot2 dplyr "
    "discord.py puppeteer htmx asyncpg psycopg2 kustomize logstash openshift systemctl iptables postgrest"
)
"""Languages, libraries and tools."""

PROBLEM: Final = _words(
    "error errors exception exceptions bug bugs crash crashes crashed crashing fails fail failed failing failure "
    "broken issue issues wrong incorrect unexpected unexpectedly problem doesnt isnt cant cannot wont didnt "
    "undefined nan null segfault leak leaks deadlock freeze freezes hangs stuck throws throwing thrown unable "
    "warning invalid missing deprecated timeout refused denied why regression flaky nullpointerexception "
    "typeerror keyerror valueerror attributeerror importerror modulenotfounderror referenceerror syntaxerror "
    "indexerror runtimeerror nullreferenceexception slow slower slowly laggy lags sluggish"
)
"""Words of things that do not work."""

FIX: Final = _words(
    "debug debugging debugger fix fixing fixed solve resolve troubleshoot troubleshooting diagnose triage rootcause "
    "root-cause bugfix hotfix workaround"
)
"""Verbs that ask for a repair."""

TEST: Final = _words("test tests testing tested tester qa")
STRONG_TEST: Final = _words(
    "unittest unittests pytest jest junit mocha chai vitest xunit nunit rspec phpunit cypress playwright testcase "
    "testcases unit-test unit-tests e2e end-to-end mocks mocking mockito fixtures coverage tdd bdd regression-test "
    "test-driven assertion assertions fuzzing hypothesis-based gtest testcontainers"
)
"""Frameworks and terms of testing software."""
FAILING: Final = _words("fail fails failed failing flaky flakes passes")
"""What a test does whose cause of failing is asked for; tests "for failed logins" are to be written."""
TEST_KIND: Final = _words("unit integration regression acceptance smoke functional load api automated cases suite plan")
"""What stands before or after "test" when software is meant."""

DOCUMENT: Final = _words(
    "documentation document documents docs docblock docblocks comments handbook manual whitepaper wiki guide faq sop "
    "glossary"
)
STRONG_DOCUMENT: Final = _words(
    "docstring docstrings readme readme.md javadoc jsdoc changelog sphinx mkdocs docusaurus runbook llms.txt "
    "contributing.md doxygen godoc rustdoc tsdoc redoc swagger openapi"
)
"""Kinds of documentation that are called by a name of their own."""

ARCHITECTURE: Final = _words(
    "architecture architectural architect architecting microservice microservices monolith monolithic hexagonal "
    "event-driven serverless cqrs ddd domain-driven scalability topology blueprint monorepo multi-tenant soa onion"
)
"""Terms of how systems are made of parts."""
STRUCTURE: Final = _words(
    "design designing pattern patterns layer layers layered service services dependency decouple decoupled coupling "
    "scalable distributed gateway mvc mvvm mvp viewmodel presenter adapter adapters repository domain bounded "
    "aggregate entity component components modular separation responsibility queue messaging broker sharding system "
    "systems infrastructure tradeoffs trade-offs"
)
"""Words that speak of architecture when several come together."""

ANALYZE: Final = _words(
    "analyze analyse analyzing analysing analysis evaluate evaluation assess assessment interpret review critique "
    "investigate examine audit benchmark"
)
COMPARE: Final = _words(
    "compare comparison contrast versus vs difference differences correlation trend trends implications"
)
JUDGE: Final = _words(
    "complexity big-o vulnerability vulnerabilities swot bottleneck bottlenecks sentiment fallacy fallacies "
    "weaknesses strengths loopholes"
)
"""What is looked for in something that is there, if nothing is to be made."""
DATA: Final = _words(
    "data dataset statistics statistical figures table chart graph sales revenue metrics survey results report"
)
EXPLAIN: Final = _words("explain explanation understand meaning describe")

PLAN: Final = _words("plan plans planning planned schedule agenda timetable program routine strategy strategic")
STRONG_PLAN: Final = _words(
    "roadmap itinerary milestones milestone timeline sprint backlog gantt rollout deadlines phases okrs workload"
)
SPAN: Final = _words("day days week weeks weekly daily month months year nights budget trip goals tasks deliverables")

CREATIVE: Final = _words(
    "poem poems poetry story stories song lyrics novel haiku sonnet screenplay scene joke jokes roleplay role-play "
    "fictional fiction character characters dialogue slogan slogans tagline fanfic fanfiction imagine pretend "
    "rhyme rap limerick funny humorous creative brainstorm names plot villain script monologue speech parody verse"
)
"""Words of invention: general tasks with high creativity."""
WRITING: Final = _words(
    "essay article blog email letter paragraph paragraphs sentence title titles headline tweet caption post ad copy "
    "marketing summarize summarise summary paraphrase rephrase proofread grammar translation recipe cook resume cv "
    "biography advice opinion product description instagram linkedin facebook youtube seo"
)
"""Words of everyday writing and advice."""

EXACT: Final = _words(
    "calculate compute solve equation equations integral derivative probability theorem proof prove sum percentage "
    "fraction triangle exact exactly precise precisely accurate accurately correct correctly verify formula "
    "legal law contract medical dose dosage diagnosis tax financial security safety critical production many much"
)
"""Words of questions with one right answer, or where a wrong one does harm."""
CALCULATE: Final = _words(
    "calculate compute solve equation equations integral derivative probability theorem proof prove sum percentage "
    "fraction triangle formula velocity mass voltage molar joules kg meters km hours rate average ratio equals total "
    "polynomial matrix prime integer integers digits angle radius area volume acceleration electron mol pressure"
)
"""Words of questions whose answer is calculated."""
QUICK: Final = _words(
    "quick quickly brief briefly short shortly concise concisely tldr fast asap urgent urgently simply"
)
THOROUGH: Final = _words(
    "detailed detail comprehensive comprehensively thorough thoroughly in-depth depth extensive exhaustive complete "
    "elaborate full step-by-step"
)
HARD: Final = _words(
    "distributed concurrent concurrency scalable scalability optimize optimise performance production architecture "
    "microservices migration migrate security prove theorem multi-threaded asynchronous consensus compiler kernel "
    "cryptography encryption transaction transactions fault-tolerant constraints tradeoffs trade-offs "
    "comprehensive high-availability race deadlock realtime real-time integrate end-to-end enterprise multi-tenant "
    "complex complexity advanced"
)
"""Words of demanding work."""
EASY: Final = _words("simple simply basic easy hello hi hey thanks beginner small tiny quick define translate name")

YES_NO: Final = _words("yes no")
UNITS: Final = _words(
    "word words sentence sentences paragraph paragraphs page pages bullet bullets points lines items ideas examples "
    "tips steps names titles questions reasons ways facts variations suggestions tweets headlines essay tests functions"
)
"""What an answer's length is asked for in."""

ENGLISH: Final = _words(
    "the a an of to and in is are was for on with that this it you my i me we how what which who when where why do "
    "does can could should would be have has not from by as at or if please your use using"
)
"""Function words; a text that has hardly any of them is not English."""

FOREIGN: Final = _words(
    "der die das und ist ein eine einen nicht mit auf von zu den dem warum wie ich wir mein meine bitte sind hat "
    "le la les des une est et que qui pour dans avec mon ma je il du au ne pas sur el los las una para con por como "
    "mi es se del lo gli che di della non sono uma os com da do na em meu minha um ao un de"
)
"""Function words of German, French, Spanish, Italian and Portuguese: more of them than of English ones tell the
language, for "in", "was", "a" and "me" are words of those, too."""

GOING_ON: Final = _words(
    "and also now only but still again instead plus then same without shorter longer bigger smaller more less replace "
    "nope jetzt und auch aber noch nur et aussi maintenant mais y también ahora pero"
)
"""Words with which a message goes on with what was said before it."""
SAID_BEFORE: Final = _words("it its those these them ones")
"""What speaks of something said before."""

GROUPS: Final = (
    MAKE, CODE, STRONG_CODE, TECH, PROBLEM, FIX, TEST, STRONG_TEST, FAILING, TEST_KIND, DOCUMENT, STRONG_DOCUMENT,
    ARCHITECTURE, STRUCTURE, ANALYZE, COMPARE, JUDGE, DATA, EXPLAIN, PLAN, STRONG_PLAN, SPAN, CREATIVE, WRITING, EXACT,
    QUICK, CALCULATE, THOROUGH, HARD, EASY, YES_NO, UNITS, ENGLISH,
)  # fmt: skip
EVERY: Final = frozenset().union(*GROUPS)
"""All words of all groups: one intersection with it leaves little to look up."""
