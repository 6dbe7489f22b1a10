"""Text as bytes and as words: what all readers of texts share."""

from lm.command import InputError

EOS = "<eos>"  # The word that stands for the end of a line.


class DataError(InputError, ValueError):
  """Text that is missing, unreadable, or too short for a batch."""


def decode(content, name):
  """Returns the text that bytes hold in UTF-8, each newline as LF.

  Args:
    content: bytes.
    name: what to call them in an error.

  Raises:
    DataError: if they are not UTF-8.
  """
  try:
    text = content.decode("utf-8")
  except UnicodeDecodeError as error:
    raise DataError(
      f"{name} is not UTF-8 text: byte {content[error.start]:#04x} at offset "
      f"{error.start}. Convert it, or take another text."
    ) from None
  if "\0" in text:  # Read as UTF-8, each letter of UTF-16 would have one.
    raise DataError(
      f"{name} is not UTF-8 text: it has NUL characters. If it is UTF-16, "
      "convert it."
    )
  # Newlines of Windows and of old Macs; byte-order marks of joined files.
  return text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufeff", "")
