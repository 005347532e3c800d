"""Names that say what a column holds, in small letters with "_" for blanks and "-" (see `columns.folded`)."""

from __future__ import annotations

TEXT_FIRST = frozenset({"text", "文本"})
_TEXT = (
    "sentence review review_text content tweet tweet_text title body message comment comment_text document question "
    "query utterance post headline abstract description article sms email snippet phrase passage texts sentences "
    "内容 句子 评论 正文 标题 文章 摘要 问题 评价"
)
TEXT = frozenset(_TEXT.split())
PAIRS = (
    ("text", "text_pair"),
    ("text_a", "text_b"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("query", "document"),
    ("query", "passage"),
    ("句子1", "句子2"),
    ("文本1", "文本2"),
)
IMAGE_FIRST = frozenset({"image", "图片"})
_IMAGE = (
    "img picture pic photo images path paths file filename file_name filepath file_path image_path img_path image_file "
    "img_file image_filename image_name img_name image_file_name picture_path photo_path image_bytes "
    "图像 照片 图片路径 图像路径 路径 文件 文件名"
)
IMAGE = frozenset(_IMAGE.split())
LABEL_FIRST = frozenset({"label", "标签"})
_LABEL = (
    "labels category categories class class_name sentiment intent target tag tags topic polarity emotion gold_label "
    "label_name 类别 分类 情感 类 意图 主题"
)
LABEL = frozenset(_LABEL.split())
_PICTURE = "jpg jpeg jfif png bmp gif tif tiff webp ppm pgm avif jp2"
PICTURE_ENDINGS = frozenset(f".{ending}" for ending in _PICTURE.split())
"""How the names of picture files end, in small letters."""
MESSAGES = ("messages", "conversations", "conversation", "对话")
_ASKED = "instruction prompt question query 指令 问题 提问"
_ASKED_ELSE = "input user problem request human utterance 输入"
ASKED, ASKED_ELSE = tuple(_ASKED.split()), tuple(_ASKED_ELSE.split())
"""Columns of what is asked; the second only where there is none of the first."""
BESIDE = ("input", "context", "输入", "上下文")
"""What belongs below a question, such as the text that it is about."""
_ANSWER = "output response completion answer solution reply target assistant 输出 回答 答案 回复"
ANSWER = tuple(_ANSWER.split())
SYSTEM = ("system", "system_prompt", "系统")
TOOLS = ("tools", "functions")
CHOSEN, REJECTED = ("chosen", "preferred"), ("rejected", "dispreferred")
LIKED_FIRST, LIKED = ("liked", "kto_tag", "is_liked"), ("label",)
RAW = ("text", "content", "文本", "正文", "内容")
