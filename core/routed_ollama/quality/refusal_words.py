"""The words by which refusals are known, and what may call for one. Data only: patterns for lower-case text.

English, German, French, Spanish, Chinese and Japanese; lists of our own. That of what is sensitive leans to one side:
"exploit" makes a prompt sensitive whatever is meant, since going from model to model until one complies is worse than
handing out one refusal too many. Terms of programming that only sound alike are taken out before.
"""

# ruff: noqa: RUF001 (signs of other languages)

from __future__ import annotations

import re
from typing import Final

from routed_ollama.quality.lazy import Lazy

__all__ = [
    "COURTESIES",
    "DECLINES",
    "IDIOMS",
    "IS_MODEL",
    "MESSAGE",
    "MISSING",
    "OFFER",
    "REFUSES_THIS",
    "SENSITIVE",
    "THANKS",
    "TOLD_TO",
    "UNAVAILABLE",
]


def _words(*parts: str) -> str:
    """Return a pattern for any of these where a word begins."""
    return rf"\b(?:{'|'.join(parts)})"


DECLINES: Final = re.compile(
    _words(
        r"i(?:'m| am) (?:(?:so|very|really|terribly) )?(?:sorry|unable|not able|not comfortable)\b",
        r"i (?:can(?:not|'?t| not)|won'?t|will not|must decline|have to decline|refuse)\b",
        r"as an ai\b|i apologi[sz]e\b|sorry, (?:but )?i\b|unfortunately, i (?:can|am)",
        r"tut mir (?:wirklich )?leid|leider kann ich|ich kann (?:ihnen |dir )?(?:leider )?(?:dabei |das |"
        r"damit )?nicht\b",
        r"ich darf (?:das )?nicht|als ki\b",
        r"je suis (?:vraiment |sincèrement )?désolée?\b|désolée?, |je ne (?:peux|suis) pas\b|en tant qu'ia\b",
        r"lo siento\b|lamento\b.{0,20}\bno\b|no puedo\b|como (?:una )?ia\b|como modelo de lenguaje\b",
    )
    + "|抱歉|对不起|對不起|我(?:无法|無法|不能)|作为(?:一个|一款)?(?:ai|人工智能)"
    "|申し訳(?:ございません|ありません|ない)|すみませんが|できません|いたしかねます|お答えでき"
)
COURTESIES: Final = Lazy(
    r"\A(?:(?:sure(?: thing)?|of course|certainly|absolutely|great question|no problem|gladly)[.!,]\s*)*"
    r"(?:i(?:'d| would|'ll| will|'m| am) (?:be )?(?:happy|glad|here|love|delighted) to (?:help|assist)"
    r"[^.!?\n]{0,60}[.!]\s*)"
    r"(?:(?:please )?(?:let me know|feel free)[^.!?\n]{0,90}[.!]\s*)?\Z"
)
"""An answer in which there is nothing but the offer to help."""
THANKS: Final = Lazy(r"\bthank|\bthx\b|\bhelp me\b|\bdanke|\bmerci\b|\bgracias\b")
"""To what such an offer is an answer."""
IS_MODEL: Final = Lazy(
    r"\bas an? (?:ai|(?:large )?language model)\b|\bals (?:ki|sprachmodell)\b|\ben tant qu'ia\b|"
    r"\bcomo (?:una )?ia\b|"
    r"\bcomo modelo de lenguaje\b|作为(?:一个|一款)?(?:ai|人工智能)|"
    r"\bi(?:'m| am) (?:unable|not able) to\b|"
    r"\bi can(?:not|'?t| not) (?:write|help|assist|create|generate|provide|produce|do)\b"
)
"""How a model speaks of itself, and persons in their messages do not."""
MESSAGE: Final = Lazy(
    _words(
        r"apolog|sorry\b|regret|excuse|e-?mails?\b|letters?\b|messages?\b|repl(?:y|ies)\b|dialog|script\b|scene\b",
        r"entschuldig|brief\b|nachricht|mail\b|lettre|courriel|excus|désolée?|disculp|carta\b|correo|mensaje",
        r"song|lyrics|poem|story|monolog|speech|gedicht|rede\b|poème|poema|translat|übersetz|tradu",
    )
    + "|道歉|邮件|信|诗|谢罪|謝罪|メール|手紙|お詫び|翻[译訳]"
)
"""What one may have to be sorry in: a message to somebody, what somebody says in a story, what is translated."""
UNAVAILABLE: Final = Lazy(
    r"\bweather|\bright now\b|\btoday\b|\btonight\b|\bcurrent|\blatest\b|\bnews\b|\bstock price|\bexchange rate|"
    r"\bwhat time\b|\bmy (?:screen|computer|files?|inbox|calendar|photos?|location|account)\b|https?://|"
    r"\battached\b|\bthis (?:image|picture|photo|pdf|file|video)\b|"
    r"\b(?:can|do|are|have) you (?:see|hear|access|remember|browse|open|feel|have|know|look)\b|"
    r"\byou (?:can(?:not|'?t| not)|are unable)\b|"
    r"\bwetter\b|\bheute\b|\baktuell|\bgerade\b|\bmétéo\b|aujourd'hui|\bactuel|\bclima\b|\bhoy\b|\bactual|"
    r"天气|今天|现在|最新|天気|今日|現在"
)
"""What no model has by itself: the hour, the weather, the asker's screen."""
REFUSES_THIS: Final = Lazy(
    _words(
        r"(?:can(?:not|'?t| not)|won'?t|will not|unable to|not able to|(?:must|have to) decline to|refuse to|"
        r"not comfortable) (?:help|assist|comply|fulfil+|do|answer|support|engage|write|create|generate|produce|"
        r"provide|"
        r"complete|respond|participate|continue|discuss|helping|assisting|answering|writing|providing)(?: you)?"
        r"(?: with| to| in)?(?: (?:that|this|it|your|the|such|any|cod(?:e|ing)|programming|programs?|scripts?|"
        r"functions?|"
        r"requests?)\b|[.,!]|$)",
        r"kann (?:ihnen |dir )?(?:leider )?(?:dabei|damit|bei dieser|das|diese\w*)[^.!?]{0,50}?\bnicht\b",
        r"ne (?:peux|suis) pas (?:en mesure de |capable de )?(?:vous |t')?(?:y )?(?:aider|répondre|assister|faire|"
        r"satisfaire|traiter|fournir|écrire|générer)",
        r"no puedo (?:ayudar|asistir|responder|hacer|cumplir|proporcionar|escribir|generar|atender|completar)",
    )
    + "|(?:无法|無法|不能)(?:为您|为你|帮您|帮你)?(?:帮助|幫助|协助|回答|回应|提供|满足|完成|处理|處理|编写|帮忙|"
    "帮你|帮您)"
    "|(?:お手伝い|お答え|対応|回答|支援|お力になること|提供|サポート)(?:する)?(?:こと)?(?:は|が|も|を)?"
    "(?:でき(?:ません|かね)|いたしかね)"
)
"""That this is not done, whatever it is, in so many words."""

MISSING: Final = Lazy(
    r"real[- ]?time|\binternet\b|\bbrows|\baccess|\blinks?\b|\burls?\b|\bfiles?\b|\bimages?\b|\bpictures?\b|"
    r"\bphotos?\b|"
    r"attach|upload|\bpaste|\bshar(?:e|ed|ing)\b|\bprovided\b|please provide|could you provide|"
    r"provide (?:me|more|the|your|a)\b|\bcontext\b|\binformation\b|\bdetails?\b|\bclarif|\bspecif|\bwhich\b|\bwhat\b|"
    r"\bknow|\bsure\b|\bfuture\b|\bpredict|\bopinion|\bfeeling|cutoff|up[- ]to[- ]date|\bcurrent|\bdates?\b|"
    r"\bweather\b|"
    r"\blocation|\bremember|\bprevious|\bphysical|\baudio|\bvideos?\b|\btools?\b|\bexecute|\brun\b|\bsee\b|\bbecause\b|"
    r"\bsince\b|\bnot (?:mention|contain|include)|\bunless\b|\binstead\b|\bhowever\b|\bbut i can (?!not\b)|"
    r"\bhere(?:'s| is| are)\b|"
    r"echtzeit|zugriff|zugang|datei|bild|anhang|kontext|information|angaben|genauer|welche|weiß|aktuell|wetter|zukunft|"
    r"meinung|weil\b|stattdessen|jedoch|temps réel|accès|fichier|contexte|précis|\bquel|\bsais\b|actuel|météo|avenir|"
    r"\bparce\b|cependant|tiempo real|acceso|archivo|imagen|contexto|información|detalle|\bcuál|\bsé\b|actual|"
    r"\bclima\b|"
    r"futuro|opinión|\bporque\b|sin embargo|实时|实際|访问|訪問|文件|图片|圖片|上下文|信息|資訊|具体|哪|知道|天气|"
    r"未来|观点|"
    r"因为|但是|不过|目前|当前|リアルタイム|アクセス|ファイル|画像|文脈|情報|詳細|具体|どの|わかり|分かり|天気|意見|"
    r"ため|"
    r"ただし|現在"
)
"""What a model may lack, be it asked for or not to be had; and what goes on after a refusal, as reasons and offers "
"do."""
OFFER: Final = Lazy(
    r"[^.!?。！？\n]*\b(?:anything|something|other|else|different|another|happy|glad|feel free|autre|otr[oa]|"
    r"andere\w*|sonst|gern\w*)\b[^.!?。！？\n]*[.!?]?|[^。！？\n]*(?:其他|别的|他に|ほか|他の)[^。！？\n]*[。！？]?"
)
"""What is said after a refusal as a matter of course: whether there is something else to help with."""

SENSITIVE: Final = Lazy(
    _words(
        r"kill|murder|suicid|self[- ]?harm|harm(?:s|ed|ful|ing)?\b|hurt\b|weapon|bomb|explosi|firearm|guns?\b|ammo\b",
        r"ammunition|knife|poison|toxi[cn]|nerve agent|anthrax|ricin|uranium|drugs?\b|meth\b|methamph|cocaine|heroin",
        r"fentanyl|opioid|narcot|overdos|sex|porn|nude|naked|nsfw|erotic|fetish|rape|incest|minors?\b|underage|pedo",
        r"child abuse|hack|exploit|malware|ransom|virus|trojan|worm\b|keylog|rootkit|backdoor|phish|spoof|ddos|botnet",
        r"crack|pirat|bypass|circumvent|evad|jailbreak|steal|stole|theft|thief|rob\b|robb|shoplift|burgl|lockpick",
        r"pick (?:a |the )?lock|fraud|scam|forg(?:e|ed|ery|ing)\b|counterfeit|fake|launder|bribe|blackmail|extort",
        r"smuggl|traffick|illegal|illicit|crim|terror|extremis|nazi|hitler|racis|racial|slur|hate|genocid|ethnic",
        r"holocaust|attack|assault|abus|tortur|violen|stalk|spy|spie|surveil|track (?:my|his|her|a|some)|deepfake",
        r"dox(?:x\w*|ing|ed)?\b|impersonat|manipulat|deceiv|decept|misinform|disinform|propagand|conspir|cheat|plagiar",
        r"politic|election|vote|president|religio|muslim|islam|jew|christian|abortion|medic|dosage|dose\b|prescri",
        r"doctor|patient\b|illness|disorder|disease|cancer|pregnan|therap|depress|anorex|diet pill|legal advice",
        r"lawsuit|lawyer|tax evasion|invest(?:ments?|ors?|ing)?\b|insider|gambl|social security|credit card|ssn\b",
        r"personal data|private|password|credential|copyright|lyrics|verbatim|system prompt|your instructions",
        r"ignore (?:all|previous|your)|pretend|roleplay|uncensored|without restrict|unethical|dangerous|lethal|deadly",
        r"dead\b|death|blood|gore|detonat|sabotag",
        r"töt|mord|umbring|selbstmord|suizid|selbstverletz|waffe|bombe|spreng|munition|giftig|vergift|droge|rausch|"
        r"nackt",
        r"vergewalt|missbrauch|einbrech|einbruch|stehl|diebstahl|betrug|betrüg|fälsch|erpress|schmugg|verbrech|"
        r"straftat",
        r"rassis|hass\b|hasse\w*|hassrede|angriff|angreif|folter|gewalt|ausspion|überwach|passw|wahl|politi|religi",
        r"abtreib|medikament|dosis|krank|schwanger|steuerhinterz|urheberrecht|liedtext|umgeh",
        r"tuer\b|tuez\b|meurtr|assassin|arme|drogue|viol|nue?s?\b|voler|vols?\b|escroqu|falsifi|chantage|contreband",
        r"illég|haine|attaqu|espionn|mot de passe|électi|avort|médic|malad|enceinte|dépress|fraude|paroles de|contourn",
        r"matar|mato|mate\b|asesin|arma|bomba|droga|veneno|desnud|robar|robo\b|estafa|falsific|chantaj|contraband|"
        r"ilegal",
        r"crimen|odio|ataqu|espiar|contraseñ|elecci|polític|aborto|abortar|enferm|embaraz|evasión|letra de|eludir",
    )
    + "|杀|殺|死亡|去死|自残|武器|枪|槍|炸|弹药|毒|药|藥|性(?:行为|爱|侵|交|骚|感)|色情|裸|强奸|未成年|黑客|木马|"
    "入侵|破解|漏洞"
    "|攻击|攻擊|盗|偷|诈|骗|伪造|洗钱|走私|非法|违法|犯罪|恐怖|种族|仇恨|暴力|监视|跟踪(?:他|她|某人|别人|妻子|丈夫|"
    "前)|密码"
    "|政治|选举|主席|共产党|台湾|天安门|宗教|堕胎|诊断|疾病|癌|抑郁|隐私|绕过"
    "|自傷|銃|爆|薬|ハッキング|ハック|ウイルス|マルウェア|不正(?:アクセス|利用|行為)|侵入|違法|テロ|差別|憎悪|拷問|"
    "詐欺|偽造"
    "|パスワード|選挙|中絶|診断|病|妊娠|うつ|性的|ポルノ|個人情報|脱獄|危険"
)
IDIOMS: Final = Lazy(
    _words(
        r"kill(?:s|ed|ing)?(?: (?:an?|the|all|my|any|every|child|zombie|orphan\w*|background|running|hung|stuck|stale|"
        r"python|node|java|docker|linux|unix|windows))* (?:sub)?(?:process|thread|task|job|pid|port|container|pod|"
        r"connection|signal)(?:e?s)?\b|kill -\w+\b|pkill\b|sigkill\b",
        r"dead[- ]?(?:lock|line|letter queue|code)\w*|fake (?:data|server|client|clock|object|timer)s?\b",
        r"private (?:key|method|field|member|function|class|repo\w*|network|static|final|void|int|string|readonly)\w*",
        r"hackathon\w*|hacker ?rank\b|string manipulation\b|leader election\b|cheat ?sheets?\b",
        r"manipulat\w+ (?:strings?|lists?|arrays?|dom|data|dates?|files?)\b",
        r"password (?:field|input|validat\w+|strength|hash\w*|reset|generator)\b",
        r"(?:constraint|access|integrity|unique|foreign key|segmentation|sharing) violations?\b",
    )
    + "|杀(?:死|掉)?(?:进程|线程)"
)
"""Terms of programming that hold a word of the list above and mean no harm."""
TOLD_TO: Final = Lazy(
    _words(
        r"refus|declin|sorry\b|unable\b|can(?:not|'t) (?:help|assist|answer)|not allowed\b|forbid|prohibit|"
        r"off[- ]topic",
        r"out of scope|outside (?:of )?(?:your|the|this) (?:scope|domain|topic)|polic(?:y|ies)\b|guideline|restrict",
        r"limited to\b|unrelated\b|other topics?\b|stick to\b|inappropriate\b",
        r"only (?:answer|respond|reply|discuss|talk|help|assist|use the|questions|the (?:context|information))",
        r"(?:do not|don't|never|must not) (?:answer|discuss|help|respond|talk|provide|reveal|assist|engage)",
        r"if (?:you|the|it|a|there|asked|they|someone)\b[^.\n]{0,80}\b(?:say|reply|respond|answer with|tell|output|"
        r"state)\b",
        r"(?:given|provided|following|above|below) (?:the )?(?:context|passage|document|excerpt)|context information\b",
        r"prior knowledge\b|based (?:only|solely)\b|according to the\b",
        r"lehne?\b|ablehn|verweiger|nur (?:fragen|auf fragen|über|zu)\b|nicht beantwort|anhand des (?:kontext|text)",
        r"falls du\b|wenn du nicht|uniquement|seulement (?:aux|répond)|ne répond|si (?:tu|vous) ne\b",
        r"d'après le (?:texte|contexte|document)|rechaz|únicamente|solo (?:responde|preguntas)|no respond",
        r"según el (?:texto|contexto|documento)|si no (?:sabes|puedes)",
    )
    + "|拒绝|拒絕|只回答|只能回答|不要回答|根据(?:上下文|以下|上述|文档)|如果(?:不|无法)|拒否|断って|のみ(?:回答|答え)"
    "|だけ(?:に)?(?:回答|答え)|答えないで|(?:文脈|文書|資料)に基づ|わからない場合|できない場合"
)
"""That the model was told when to decline, to keep to a subject, or to keep to a text."""
