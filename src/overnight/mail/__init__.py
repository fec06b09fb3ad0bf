"""Mail: templates, messages that cannot be injected into, and two ways out: a folder or an SMTP relay."""

from overnight.ledger.outsiders import STAND_IN
from overnight.mail.fuse import allow_real, forbid_real
from overnight.mail.mailer import Mailer, MailSettings, Recipient, Turn, no_turn
from overnight.mail.message import message_id
from overnight.mail.pace import Pace
from overnight.mail.rehearsal import MARK, Diverted
from overnight.mail.streak import Streak

__all__ = [
    "MARK",
    "STAND_IN",
    "Diverted",
    "MailSettings",
    "Mailer",
    "Pace",
    "Recipient",
    "Streak",
    "Turn",
    "allow_real",
    "forbid_real",
    "message_id",
    "no_turn",
]
