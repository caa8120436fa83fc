"""One normal form, by which every decision is made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import paths
from gateway.core.paths import PathError


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/a/b", "/a/b"), ("/", "/"), ("//a///b", "/a/b"), ("/a/./b/../c", "/a/c"), ("/a/%2e%2e/b", "/b"),
        ("/%41%7e", "/A~"), ("/a%c3%a9", "/a%C3%A9"), ("/a/b/", "/a/b/"), ("/a/..", "/"), ("/a;v=1/b", "/a;v=1/b"),
        ("/.hidden", "/.hidden"), ("/a/.", "/a/"),
    ],
)  # fmt: skip
def test_normal_form(path: str, normal: str) -> None:
    assert paths.normalise(path) == normal


@pytest.mark.parametrize(
    "path",
    ["/a\\b", "/a%5cb", "/a%2fb", "/a%2Fb", "/a%00", "/a%0d", "/a\x00", "/%2541", "/..", "/a/../../b", "/..;/x",
     "/a/%2e%2e;x/b", "/a/.;x", "/a%", "/a%4", "/a%zz", "a/b", "", "/a b", "/a\"b", "/a<b", "/a#b", "/é"],
)  # fmt: skip
def test_what_two_programs_could_read_differently_is_refused(path: str) -> None:
    with pytest.raises(PathError):
        paths.normalise(path)


texts = st.text(st.sampled_from("/.ab%2eEfF;~-5c0"), max_size=24).map("/".__add__)


@given(texts)
def test_the_normal_form_is_its_own(path: str) -> None:
    try:
        normal = paths.normalise(path)
    except PathError:
        return
    assert paths.normalise(normal) == normal
    assert normal.startswith("/")
    assert "//" not in normal
    assert not {".", ".."} & set(normal.split("/"))


@given(texts, texts)
def test_what_is_denied_stays_denied_however_it_is_written(path: str, prefix: str) -> None:
    """Two spellings of one path are covered by the same prefixes."""
    try:
        normal = paths.normalise(path)
    except PathError:
        return
    assert paths.covers(prefix, normal) == paths.covers(prefix, paths.normalise(normal.replace("a", "%61")))


@pytest.mark.parametrize(
    ("prefix", "path", "covered"),
    [("/open", "/open", True), ("/open", "/open/x", True), ("/open", "/opener", False), ("/", "/x", True),
     ("/open/", "/open", True), ("/a/b", "/a", False)],
)  # fmt: skip
def test_prefixes_end_at_segments(prefix: str, path: str, covered: bool) -> None:
    assert paths.covers(prefix, path) is covered


@pytest.mark.parametrize(
    ("path", "prefix", "base", "result"),
    [
        ("/gateway/orders/7", "/gateway/orders", "/orders", "/orders/7"),
        ("/gateway/orders", "/gateway/orders", "/orders", "/orders"),
        ("/gateway/orders/7", "/gateway/orders", "/", "/7"),
        ("/gateway/orders", "/gateway/orders", "/", "/"),
        ("/gateway/orders/7", "/gateway/orders", "", "/gateway/orders/7"),
        ("/gateway/orders/", "/gateway/orders", "/orders", "/orders/"),
        ("/x", "/", "/base", "/base/x"),
    ],
)
def test_a_url_with_a_path_replaces_the_matched_prefix(path: str, prefix: str, base: str, result: str) -> None:
    assert paths.rebase(path, prefix, base) == result
