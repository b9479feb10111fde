"""The browser that the other tests use: it sees what a page does wrong."""

import pytest
from support import browser

pytestmark = pytest.mark.browser

PAGE = "<!doctype html><html lang=en><title>Page</title><link rel=icon href=data:,><main><h1>Page</h1>{}</main></html>"


@pytest.fixture
def written(tmp_path):
    def write(body: str):
        (tmp_path / "index.html").write_text(PAGE.format(body))
        return tmp_path

    return write


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


def test_a_page_that_does_nothing_is_clean(chromium, written):
    with browser.static(written("<p>Text</p>")) as address, browser.visit(chromium) as visit:
        visit.page.goto(address)
        visit.page.wait_for_load_state("networkidle")
        assert browser.violations(visit.page) == []
        visit.assert_clean()


@pytest.mark.parametrize(
    ("body", "messages", "failed", "elsewhere"),
    [
        ("<script>console.info('told')</script>", ["info: told"], [], []),
        ("<script>null.x</script>", ["error: Cannot read"], [], []),
        ("<script>new Worker('worker.js')</script>", ["error: told in a worker"], [], []),
        ("<img src=gone.png alt=Gone>", ["error: Failed to load"], ["gone.png: 404"], []),
        (
            "<img src=http://example.org/i.png alt=I>",
            ["error: Failed"],
            ["NAME_NOT_RESOLVED"],
            ["http://example.org/i"],
        ),
    ],
)
def test_what_a_page_does_is_recorded(chromium, written, body, messages, failed, elsewhere):
    folder = written(body)
    (folder / "worker.js").write_text("console.error('told in a worker')")
    with browser.static(folder) as address, browser.visit(chromium) as visit:
        visit.page.goto(address)
        visit.page.wait_for_load_state("networkidle")
        for expected, seen in ((messages, visit.messages), (failed, visit.failed), (elsewhere, visit.elsewhere)):
            assert len(seen) == len(expected)
            assert all(part in whole for part, whole in zip(expected, seen, strict=True)), seen


@pytest.mark.parametrize("isolated", [False, True])
def test_the_static_server_isolates_a_page_where_asked(chromium, written, isolated):
    with browser.static(written(""), isolated=isolated) as address, browser.visit(chromium) as visit:
        visit.page.goto(address)
        assert visit.page.evaluate("crossOriginIsolated") is isolated


def test_serious_violations_of_accessibility_are_found(chromium, written):
    with browser.static(written("<input>")) as address, browser.visit(chromium) as visit:
        visit.page.goto(address)
        assert [line.partition(":")[0] for line in browser.violations(visit.page)] == ["label"]
