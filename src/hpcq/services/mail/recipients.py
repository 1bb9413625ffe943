"""The jobs whose mails this service sends, and the addresses to which it does."""

from dataclasses import replace

from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec
from hpcq.services.mail.settings import ANY_DOMAIN, MailSettings

__all__ = ["take_over_mails"]


def take_over_mails(spec: JobSpec, settings: MailSettings) -> JobSpec:
    """Return the job with its mails as this service's task, if it asks for any and that sends them.

    Raises:
        InvalidSpec: the site lets no mail go to the address.
    """
    if spec.mail_to is None or not settings.sends_mails:
        return spec
    allowed = settings.allowed_domains
    domain = spec.mail_to.rpartition("@")[2].lower()
    if "@" not in spec.mail_to or not {domain, ANY_DOMAIN}.intersection(allowed):
        where = "any domain" if ANY_DOMAIN in allowed else f"one of {', '.join(allowed)}"
        raise InvalidSpec(
            f"mailTo is {spec.mail_to!r}; mails go to addresses with a domain, here to {where}. "
            "MAIL_DOMAINS says which.",
            field="mailTo",
        )
    return replace(spec, is_mailed_here=True)
