"""Tests that flags.md is what flags_page.py makes of today's flags."""

import flags_page


def test_the_page_is_up_to_date():
  assert flags_page.PAGE.read_text("utf-8") == flags_page.page()
