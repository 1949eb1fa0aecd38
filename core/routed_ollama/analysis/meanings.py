"""Words of other languages, by the English ones that the rules listen for. Law: data only; what is unsure is left out.

German, French, Spanish, Portuguese and Italian words, and pairs of Chinese and Japanese characters, because texts of
these are read in pairs. A word that means something else in another of these languages is not here, nor is one that
is rather said in passing. A key of six letters stands for all words that begin with it. A selection of our own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["heard"]

_STEM: Final = 6
"""Length of the keys that stand for all words that begin with them."""

_MEANINGS: Final = {
    # to be made
    "write": "schreib schreibe verfasse écris écrire rédige rédiger escribe escribir redacta redactar escreva escrever "
    "redija scrivi scrivere scrivimi schreibt 编写 写一 写个 书き 書い",
    "create": "erstelle erstellen erzeuge crée créer crea crear creami criar crie genera generar gere générer génère "
    "generier mach baue erstellst fais hazme haz faz faça 创建 生成 作成 作っ",
    "implement": "implementiere implementieren implémente implémenter implementa implementar implemente 实现 実装",
    "convert": "konvertiere convertis convierte converta converti 转换 変換",
    # programs
    "function": "funktion funktionen fonction fonctions función funciones função funções funzione funzioni 函数 関数",
    "script": "skript skripte scripts 脚本",
    "code": "quellcode código códigos codice 代码 コー",
    "program": "programm programme programma 程序 プロ",
    "query": "abfrage requête requêtes consulta",
    "class": "klasse klassen",
    "database": "datenbank datenbanken données banco 数据 データ",
    # what does not work
    "error": "fehler fehlermeldung fehlermeldungen erreur erreurs errore errores erros erro 报错 错误 エラ",
    "crash": "abstürz absturz stürzt plante plantage falla 崩溃 クラ",
    "fails": "schlägt fehlgeschlagen échoue échouent falha falhando fallisce 失败 失敗",
    "doesnt": "funktioniert fonctionne funciona funzion 不能 无法 動か",
    "fix": "behebe beheben repariere corrige corriger arreglar arregla corrija corrigir correggi 修复 修正",
    # tests
    "test": "testfall testfälle testfä testen tester teste testare prueba pruebas 测试 テス",
    "cases": "testfälle testfä casos",
    "unit": "unitarios unitaires unitários unitari 单元 単体",
    # systems
    "architecture": "architektur architekturen arquitetura arquitectura architettura 架构 構成",
    "microservices": "microservicios microsserviços microservizi 微服",
    "design": "entwirf entwurf conçois concevoir diseña diseñar diseño projete progetta 设计 設計",
    # documents
    "documentation": "dokumentation dokumentiere documenta documentação documentación documentazione documentar "
    "文档 ドキ",
    "manual": "anleitung anleitungen betriebsanleitung bedienungsanleitung handbuch benutzerhandbuch manuel manuale "
    "手册 説明",
    # findings
    "analyze": "analysiere analysieren bewerte bewerten beurteile analyser analysez analiza analizar analise analisar "
    "analizza evalúa évalue évaluer valuta avalie 分析 评估 評価",
    "compare": "vergleiche vergleichen comparer comparez compara comparar confronta 比较 比較",
    # steps over time
    "plan": "zeitplan lernplan trainingsplan wochenplan reiseplan planung planning planifie planifier planifica "
    "planificar planeje cronograma pianifica planejamento 计划 計画 规划",
    "itinerary": "reiseroute itinéraire itinerario roteiro 行程",
    "week": "woche wochen semaine semaines semana semanas settimana settimane 每周 週間",
    "month": "monat monate mois meses mese mesi 个月",
    # the rest
    "poem": "gedicht gedichte poème poema poesia 诗歌",
    "story": "geschichte märchen histoire historia história storia 故事 物語",
    "joke": "witz witze blague chiste piada barzelletta 笑话",
    "email": "mail mails courriel correo 邮件 メー",
    "translation": "übersetze übersetzen übersetzung traduis traduire traduce traducir traduza traduci 翻译 翻訳",
    "summary": "zusammenfassung fasse résume résumer résumé resume resumen resumir resuma riassumi 总结 要約",
    "recipe": "rezept rezepte recette receta receita ricetta",
    "rephrase": "formuliere umformuliere reformule reformula",
}


def _by_word() -> dict[str, str]:
    return {word: meaning for meaning, words in _MEANINGS.items() for word in words.split()}


_HEARD: Final = _by_word()


def heard(words: Iterable[str]) -> list[str]:
    """Return the words that are listened for, in place of those that mean them; of compounds, the parts as well.

    Example:
        >>> heard(["schreibe", "eine", "funktion", "in", "rust"])
        ['write', 'eine', 'function', 'in', 'rust']
        >>> heard(["junit-tests"])
        ['junit-tests', 'junit', 'tests']
    """
    found = []
    for word in words:
        found.append(_HEARD.get(word) or _HEARD.get(word[:_STEM], word))
        if "-" in word:
            found += word.split("-")
    return found
