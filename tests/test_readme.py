import re

from tests.plugin import ROOT

README = (ROOT / "README.md").read_text()


def test_the_map_names_every_room_of_the_house_and_no_other():
    block = re.search(r"```\nncjax/\n(.*?)```", README, re.DOTALL).group(1)
    named = {line.split()[0].rstrip("/") for line in block.splitlines() if line.startswith("  ")}
    rooms = {path.name for path in (ROOT / "ncjax").iterdir() if not path.name.startswith("__")}
    assert named == rooms
    for line in block.splitlines():
        if not line.startswith(" "):
            assert (ROOT / line.split()[0]).is_dir()


def test_every_figure_and_file_it_links_to_is_there():
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert len(links) >= 3
    for link in links:
        assert (ROOT / link).is_file(), link


def test_every_make_target_it_names_exists():
    targets = set(re.findall(r"^make (\w+)", README, re.MULTILINE))
    assert targets >= {"demo", "test"}
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        assert f"\n{target}:" in makefile
