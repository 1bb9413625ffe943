"""Random vandalism of jobs of LOCAL against their own run directories, folders and processes.

Vandals and harmless jobs run side by side, each writes its name into a ledger outside, and the
service is stopped or killed in between. Then no harmless job may have noticed, none may have run
twice, each must have an end, and the service must start again.

Jobs run as the service's account, or vandals as one account and harmless jobs as another. Other
accounts must not reach anything of the service's at all: no end may be unknown, nothing that links
lead to may change, and no folder of a job may stay.
"""

import os
import pwd
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.integration.test_access import token_command

from hpcq.schedulers.testing.jobs import Jobs, Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

__all__ = ["Campaign"]

ACTS_OF_A_VANDAL = 12
JOBS_OF_A_ROUND = 60
LIMIT_SECONDS = 6
PLACES = (
    "$RUN",
    "$RUN/job.json",
    "$RUN/report.json",
    "$RUN/result.json",
    "$RUN/usage.json",
    "$RUN/shepherd.log",
    "$SCRIPTS",
    "$SCRIPTS/script",
    "$FOLDER",
    "$FOLDER/pe_hostfile",
    "$FOLDER/nodefile",
    "$FOLDER/tmp",
    "$FOLDER/tmp/a",
    "$FOLDER/tmp/a/b",
)
DEEDS = (
    "rm -rf PLACE",
    "rm -rf PLACE/*",
    "mv PLACE PLACE.gone",
    "chmod 000 PLACE",
    "chmod 777 PLACE",
    "rm -rf PLACE; mkfifo PLACE",
    "rm -rf PLACE; mkdir -p PLACE/a/b",
    # Links lead to folders of the campaign: other acts follow them.
    "rm -rf PLACE; ln -s $PRECIOUS/file PLACE",
    "rm -rf PLACE; ln -s $PRECIOUS PLACE",
    "rm -rf PLACE; ln -s PLACE PLACE",
    "[ -f PLACE ] && truncate -s 20G PLACE",
    "[ -f PLACE ] && truncate -s 9 PLACE",
    "[ -f PLACE ] && head -c 9999 /dev/urandom > PLACE",
    "[ -f PLACE ] && head -c 99 /dev/urandom >> PLACE",
    '[ -d PLACE ] || rm -rf PLACE; echo \'{"result": {"exit_code": 1e99\' > PLACE',
    '[ -d PLACE ] || rm -rf PLACE; echo \'{"sample": {"processes": [[1, 1]]}}\' > PLACE',
    "[ -f PLACE ] && ln PLACE PLACE.twice",
    "mkfifo PLACE.new",
)
AGAINST_PROCESSES = (
    "shepherd && kill -STOP $PPID",
    "shepherd && kill -KILL $PPID",
    "shepherd && kill -TERM $PPID",
    "shepherd && kill -USR2 $PPID",
    "shepherd && for n in HUP INT QUIT USR1 ALRM CHLD TSTP; do kill -$n $PPID; done",
    # Only a launcher: the parent of a shepherd that outlived its service is somebody else's.
    "grep -q launcher.py /proc/$LAUNCHER/cmdline && kill -STOP $LAUNCHER",
    "grep -q launcher.py /proc/$LAUNCHER/cmdline && kill -KILL $LAUNCHER",
    "for i in 1 2 3 4 5 6 7 8 9; do sleep 20 & done",
    "setsid sleep 20 & env -i setsid sleep 20 &",
    "kill -STOP $$ &",
    "kill -KILL $$",
)
SCRIPT = """\
echo "$NAME" >> ledger
RUN=$(echo "$RUNS/$HPCQ_JOB_ID".*) SCRIPTS=$(dirname "$0") FOLDER=$(dirname "$TMPDIR")
# Another account cannot see the name.
[ -e "$RUN" ] || RUN=$RUNS/$HPCQ_JOB_ID.1
LAUNCHER=$(ps -o ppid= -p $PPID | tr -d ' ')
# A vandal harms the campaign's own folders and processes, and nothing else of the machine.
is_ours() { case $(realpath -m -- "$1") in "$CAMPAIGN"/?*) return 0 ;; *) return 1 ;; esac; }
shepherd() { grep -q launcher.py /proc/$PPID/cmdline; }
act() { if [ -z "$1" ] || is_ours "$1"; then eval "$2"; echo >> acts; fi; }
{
ACTS
} > /dev/null 2>&1
exit "$CODE"
"""


class Campaign:
    """One campaign.

    Args:
        directory: for the service, its log, and the jobs.
        seed: decides all that happens, except the moments.
        acts: the number of acts to reach.
        accounts: of vandals and of harmless jobs, which can enter the directory; none for the
            service's own.
    """

    def __init__(
        self, directory: Path, seed: int, acts: int, accounts: Sequence[pwd.struct_passwd] = ()
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311 - nothing secret
        self._acts = acts
        self._directory = directory.resolve()
        self._precious = self._directory / "precious"
        self._precious.mkdir(parents=True)
        (self._precious / "file").write_text("precious")
        # The folders of jobs are within reach: an act reaches only what is in the directory.
        self._folders = self._directory / "folders"
        self._folders.mkdir()
        settings = {"CANCEL_GRACE_SECONDS": "0.2", "TMPDIR": str(self._folders)}
        self._users = [account.pw_name for account in accounts]
        if self._users:
            settings["SUBMIT_AS"] = "user"
        self._tokens: dict[str, str] = {}
        self._service = Service(directory / "service", settings)
        self._study = Study(directory / "jobs")
        if self._users:
            # All jobs write into it. Not sticky: there the kernel may refuse a file of another's.
            self._study.directory.chmod(0o777)
            for name in ("ledger", "acts"):
                (self._study.directory / name).touch()
                (self._study.directory / name).chmod(0o666)
        self._codes: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        self.findings: list[str] = []
        self.starts = 0

    @property
    def acts(self) -> int:
        """The number of acts that jobs have done."""
        return len(self._lines("acts"))

    @property
    def jobs(self) -> int:
        """The number of jobs that were submitted."""
        return len(self._ids)

    def run(self) -> None:
        """Run rounds until there were enough acts; then judge."""
        self._start()
        try:
            while self.acts < self._acts and not self.findings:
                self._round()
        finally:
            self._service.stop()

    def _start(self) -> None:
        self._service.start()
        self.starts += 1
        for user in set(self._users) - set(self._tokens):
            made = token_command(self._service, "create", "--user", user, "--role", "user")
            self._tokens[user] = made.stdout.strip()

    def _round(self) -> None:
        names = [self._submit() for _ in range(JOBS_OF_A_ROUND)]
        for _ in range(self._random.randrange(3)):
            enough = self.jobs - self._random.randrange(JOBS_OF_A_ROUND + 1)
            until(lambda: len(set(self._lines("ledger"))) >= enough)  # noqa: B023 - called at once
            self._random.choice((self._service.stop, self._service.kill9))()
            self._start()
        jobs = Jobs(self._service)
        ended = jobs.all_ended(self._ids[name] for name in names)
        count = Counter(self._lines("ledger"))
        for name in names:
            job, code = ended[self._ids[name]], self._codes[name]
            if count[name] != 1:
                self.findings.append(f"{name} ran {count[name]} times: {job}")
            if name.startswith("harmless") and job["exitCode"] != code:
                self.findings.append(f"{name} did not end with {code}: {job}")
            if self._users and job["failureKind"] == "SCHEDULER_ERROR":
                self.findings.append(f"the end of {name} is not known: {job}")
        if self._users:
            self._judge_reach()

    def _judge_reach(self) -> None:
        """Look whether jobs of other accounts have reached what is not theirs."""
        place = self._precious
        if os.listdir(place) != ["file"] or (place / "file").read_text() != "precious":
            self.findings.append(f"{place} was changed")
        for folder in (place, self._folders, self._service.state_directory):
            for path in (folder, *folder.rglob("*")):
                if path.lstat().st_uid != os.geteuid():
                    self.findings.append(f"{path} was given away")
        left = os.listdir(self._folders)
        if left:
            self.findings.append(f"folders of jobs are left: {left}")

    def _submit(self) -> str:
        is_vandal = self._random.random() < 0.7
        name = f"{'vandal' if is_vandal else 'harmless'}-{self.jobs}"
        lines = [self._act() for _ in range(ACTS_OF_A_VANDAL)] if is_vandal else ["sleep 0.1"]
        script = self._study.script(SCRIPT.replace("ACTS", "\n".join(lines)), f"{name}.sh")
        self._codes[name] = self._random.randrange(1, 100)
        environment = {
            "NAME": name,
            "CODE": str(self._codes[name]),
            "CAMPAIGN": str(self._directory),
            "PRECIOUS": str(self._precious),
            "RUNS": str(self._service.state_directory / "local" / "runs"),
        }
        # A vandal that has stopped itself ends by its limit.
        limit = {"wallTimeLimit": LIMIT_SECONDS} if is_vandal else {}
        job = self._study.job(script, environment=environment, name=name, **limit)
        user = self._users[0 if is_vandal else 1] if self._users else None
        self._ids[name] = self._submit_as(user, job)
        return name

    def _submit_as(self, user: str | None, job: Json) -> str:
        headers = self._service.client.headers
        if user is not None:
            headers["Authorization"] = f"Bearer {self._tokens[user]}"
        try:
            return Jobs(self._service).submit(job)
        finally:
            headers.pop("Authorization", None)

    def _act(self) -> str:
        if self._random.random() < 0.05:
            return f"act '' {quoted(self._random.choice(AGAINST_PROCESSES))}"
        place = self._random.choice(PLACES)
        return f'act "{place}" {quoted(self._random.choice(DEEDS).replace("PLACE", place))}'

    def _lines(self, name: str) -> list[str]:
        path = self._study.directory / name
        return path.read_text().splitlines() if path.exists() else []


def quoted(text: str) -> str:
    """Return a text as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"
