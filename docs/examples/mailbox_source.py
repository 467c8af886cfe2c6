"""A source: the messages of a mailbox file (mbox), as mail programs and archives of mailing lists write them.

python -m data_pipeline build --source mailbox path=list.mbox --plugin docs/examples/mailbox_source.py …
"""

import mailbox
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.sources.source import SOURCES, Source


@dataclass(frozen=True)
class MailboxSource(Source):
    """One mailbox.

    Attributes:
        path: of the file.
        shortest: messages with fewer characters are left out.
    """

    path: str = ""
    shortest: int = 1

    kind = "mailbox"
    needed = "path"
    own_paths = ("path",)

    def errors(self, where):
        problems = super().errors(where)
        if self.path and not Path(self.path).is_file():
            problems.append(f"{where}.path: {self.path} does not exist")
        return problems

    def files(self):
        """Its content is part of the key: another mailbox under the same name is fetched anew."""
        return {"mailbox": Path(self.path)}

    def records(self):
        for message in mailbox.mbox(self.path, create=False):
            text = _plain_text(message)
            if len(text) >= self.shortest:
                yield {"text": text, "subject": str(message["subject"] or "")}


def _plain_text(message):
    parts = [part for part in message.walk() if part.get_content_type() == "text/plain"]
    return "\n".join(part.get_payload(decode=True).decode("utf-8", "replace") for part in parts).strip()


SOURCES.add(MailboxSource.kind, MailboxSource)
