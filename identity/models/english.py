"""What parsers of `core` say: words of one language, whoever reads them."""

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language


class English(str):
    """In a page of another language it is marked as being in this one, so that it is read out as such (WCAG 3.1.2).

    It is a text everywhere else, and escaped like one. Django takes an error's words by `str` before it shows them:
    they stay what they are.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __html__(self) -> SafeString:
        words = self[:]
        return (
            escape(words)
            if (get_language() or "en").startswith("en")
            else format_html('<span lang="en">{}</span>', words)
        )
