"""Torque's commands and, behind them, its server and its one host, as one small program.

``fake.py STATE COMMAND ARG…``. Every command reads and writes the jobs in STATE under a lock, and
starts what can start; each job that runs has a process of its own (the command ``mom``), which
ends with it. The standard library only, as it starts for every command.
"""

import contextlib
import fcntl
import json
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import output  # type: ignore[import-not-found]

Job = dict[str, Any]
Pairs = list[tuple[str, str]]

SERVER = "vm"
QUEUE = "batch"
DEFAULT_WALL_TIME = 3600
USAGE = """
usage: qsub [-a date_time] [-A account_string] [-b secs]
    [-c [ none | { enabled | periodic | shutdown |
    depth=<int> | dir=<path> | interval=<minutes>}... ]
    [-C directive_prefix] [-d path] [-D path]
    [-e path] [-h] [-I] [-j oe|eo|n] [-k {oe}] [-K <kill delay seconds>]\x20
    [-l resource_list] [-m n|{abe}] [-M user_list] [-N jobname] [-o path]\x20
    [-p priority] [-P proxy_user [-J <jobid]] [-q queue] [-r y|n]\x20
    [-S path] [-t number_to_submit] [-T type]  [-u user_list] [-w] path
    [-W additional_attributes] [-v variable_list] [-V ] [-x] [-X] [-z] [script]

"""
CANNOT_CONNECT = f"""
Unable to communicate with {SERVER}(127.0.0.1)
Cannot connect to specified server host '{SERVER}'.
"""
NO_NODES = (
    "Job exceeds queue resource limits MSG=cannot locate feasible nodes (nodes file is empty, "
    "all systems are busy, or no nodes have the requested feature)"
)
# Of pbs_error.h, modulo 256.
UNKNOWN, PERMISSION, BAD_VALUE, RUNS, BAD_STATE = 153, 159, 168, 169, 170
UNKNOWN_QUEUE, UNKNOWN_RESOURCE, TOO_MUCH = 172, 189, 190
NO_ATTRIBUTE, BAD_DEPENDENCY, BAD_ARRAY = 154, 208, 235
ID = re.compile(r"([0-9]+(?:\[[0-9]*\])?)(?:\.([A-Za-z0-9.-]+))?")
DEPENDENCY = re.compile(r"(after(?:any|ok|notok|start)?(?:array)?):(.+)")


class Failed(Exception):
    """A command ends with a message and a status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class State:
    """The state of the server, while it is locked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config: dict[str, Any] = {
            "slots": 8,
            "keep_completed": 300,
            "root": True,
            "operator": True,
            "exec_with_exec": False,
            "queue": QUEUE,
            "release": "6.1.3.h5",
        }
        self.config |= json.loads((folder / "config.json").read_text())
        for name in ("jobs", "spool", "home/server_priv/accounting"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def queues(self) -> tuple[str, ...]:
        return (QUEUE, *self.config.get("queues", ()))

    @contextlib.contextmanager
    def locked(self) -> Iterator["State"]:
        with (self.folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self

    def next_number(self) -> int:
        path = self.folder / "next"
        number = int(path.read_text()) if path.exists() else 1
        replace(path, str(number + 1))
        return number

    def jobs(self) -> dict[str, Job]:
        """All jobs and arrays by their ids; those that ended too long ago are forgotten."""
        found = {}
        forgets = self.folder / "forget"
        at = float("inf") if forgets.exists() else time.time()
        forgets.unlink(missing_ok=True)
        for path in self.folder.glob("jobs/*.json"):
            job = json.loads(path.read_text())
            over = job.get("forget_at")
            if over is not None and over <= at:
                path.unlink()
            else:
                found[job["id"]] = job
        for job in [job for job in found.values() if "array" in job]:
            tasks = [t for t in found.values() if t["number"] == job["number"] and "task" in t]
            if tasks:
                job["state"] = state_of_array(tasks)
            else:
                (self.folder / f"jobs/{job['id']}.json").unlink()
                del found[job["id"]]
        return dict(sorted(found.items(), key=lambda pair: order(pair[1])))

    def job(self, job_id: str) -> Job:
        job: Job = json.loads((self.folder / f"jobs/{job_id}.json").read_text())
        return job

    def save(self, job: Job) -> None:
        replace(self.folder / f"jobs/{job['id']}.json", json.dumps(job))

    def account(self, kind: str, job: Job, text: str) -> None:
        now = time.localtime()
        day = self.folder / "home/server_priv/accounting" / time.strftime("%Y%m%d", now)
        moment = time.strftime("%m/%d/%Y %H:%M:%S", now)
        with day.open("ab") as file:
            file.write(
                f"{moment};{kind};{name_of(job)};{text}\n".encode("utf-8", "surrogateescape")
            )

    def schedule(self) -> None:
        """Start the jobs that can start, in their order."""
        jobs = self.jobs()
        # What became of a job that waited may be what another one waits for.
        while any(self.settle(job, jobs) for job in jobs.values()):
            pass
        self.open_slots(jobs)
        free = self.config["slots"] - sum(
            j["slots"] for j in jobs.values() if j["state"] in "RES" and "array" not in j
        )
        for job in jobs.values():
            if job["state"] != "Q" or "array" in job:
                continue
            if job["slots"] > free:
                job["comment"] = "Not Running: Not enough of the right type of nodes are available"
                self.save(job)
                continue
            free -= job["slots"]
            self.start(job)

    def settle(self, job: Job, jobs: dict[str, Job]) -> bool:
        """Release a job whose dependencies are fulfilled, delete one whose never will be."""
        if job["state"] != "H" or not job.get("waits_for") or "array" in job:
            return False
        waits = []
        for kind, of, count in job["waits_for"]:
            verdict = fulfilled(kind, [jobs[i] for i in of if i in jobs], count)
            if verdict is False:
                whose = of[0] if len(of) == 1 else f"{of[0].partition('[')[0]}[]"
                job["comment"] = f"Job deleted as result of dependency on job {whose}.{SERVER}"
                self.account("A", job, "")
                self.end(job, None)
                job["exit_status"] = 256 + signal.SIGTERM
                self.save(job)
                return True
            if verdict is None:
                waits.append([kind, of, count])
        if waits != job["waits_for"]:
            job["waits_for"] = waits
            if not waits:
                job["holds"] = job["holds"].replace("s", "")
                job["depend"] = ""
                if not job["holds"]:
                    job |= {"state": "Q", "etime": int(time.time())}
            self.save(job)
            return True
        return False

    def open_slots(self, jobs: dict[str, Job]) -> None:
        """Lift the hold of those jobs of arrays that may run at the same time."""
        for array in [job for job in jobs.values() if job.get("slot_limit")]:
            tasks = [j for j in jobs.values() if j["number"] == array["number"] and "task" in j]
            free = array["slot_limit"] - sum(t["state"] in "QRES" for t in tasks)
            for task in [t for t in tasks if t["state"] == "H" and t["holds"] == "l"]:
                if free > 0:
                    free -= 1
                    task |= {"holds": "", "state": "Q"}
                    self.save(task)

    def start(self, job: Job) -> None:
        now = int(time.time())
        taken = {slot for j in self.jobs().values() for slot in j.get("on", ())}
        job["on"] = [s for s in range(self.config["slots"]) if s not in taken][: job["slots"]]
        job |= {"state": "R", "start_time": now, "mtime": now, "etime": job.get("etime", now)}
        job["start_count"] = job.get("start_count", 0) + 1
        job["comment"] = f"Job started on {time.strftime('%a %b %d at %H:%M', time.gmtime(now))}"
        # A command that is killed here leaves a job that waits: its host finds it not started.
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", __file__, self.folder, "mom", job["id"]],
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.account("S", job, accounting_of(job))
        self.save(job)

    def end(self, job: Job, status: int | None) -> None:
        """Put a job into state C; ``status`` is None for one that never started."""
        now = time.time()
        job |= {"state": "C", "mtime": int(now), "forget_at": now + self.config["keep_completed"]}
        job.pop("on", None)
        if status is not None:
            job |= {"exit_status": status, "comp_time": int(now)}
            job["total_runtime"] = f"{now - job['began']:.6f}"
        self.save(job)

    def put_back(self, job: Job) -> None:
        """Queue a job whose run ``qrerun`` has ended; recordings qstat-f.rerun, tracejob.rerun."""
        for name in ("on", "mom", "session", "began", "used"):
            job.pop(name, None)
        job |= {"state": "Q", "mtime": int(time.time()), "exit_status": 0}
        self.account("R", job, "")
        self.save(job)
        self.schedule()


Command = Callable[[State, Sequence[str]], bytes]


def replace(path: Path, text: str) -> None:
    """Write a file anew, so that a command that is killed leaves it whole."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.rename(path)


def name_of(job: Job) -> str:
    return f"{job['id']}.{SERVER}"


def order(job: Job) -> tuple[int, int]:
    return job["number"], job.get("task", -1)


def state_of_array(tasks: list[Job]) -> str:
    states = {task["state"] for task in tasks}
    if states == {"C"}:
        return "C"
    if states <= {"Q", "H"}:
        return "H" if states == {"H"} else "Q"
    return "R"


def fulfilled(kind: str, of: list[Job], count: int | None) -> bool | None:
    """Return whether enough of these jobs meet a dependency; None while that is open."""
    how = kind.removeprefix("after").removesuffix("array")
    enough = len(of) if count is None else count
    if how in ("", "start"):
        started = [job for job in of if "start_time" in job]
        return True if len(started) >= enough else None
    over = [job for job in of if job["state"] == "C"]
    good = [job for job in over if job.get("exit_status") == 0]
    fitting = {"ok": len(good), "notok": len(over) - len(good), "any": len(over)}[how]
    if fitting + len(of) - len(over) < enough:
        return False
    return True if fitting >= enough else None


def clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def ranges(slots: list[int]) -> str:
    """``0-2,4`` of 0, 1, 2, 4."""
    out: list[list[int]] = []
    for slot in slots:
        if out and out[-1][1] == slot - 1:
            out[-1][1] = slot
        else:
            out.append([slot, slot])
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in out)


def attributes_of(job: Job, when: Callable[[int], str] = str) -> Pairs:
    """Pairs of names and values, in Torque's order.

    Args:
        job: as stored.
        when: how times are printed.
    """
    state, used = job["state"], job.get("used")
    has_run = "start_time" in job
    pairs = [("Job_Name", job["name"]), ("Job_Owner", f"{job['owner']}@{SERVER}")]
    if used:
        pairs += [
            ("resources_used.cput", clock(used["cput"])),
            ("resources_used.energy_used", "0"),
            ("resources_used.mem", f"{used['mem']}kb"),
            ("resources_used.vmem", f"{used['vmem']}kb"),
            ("resources_used.walltime", clock(used["walltime"])),
        ]
    pairs += [("job_state", state), ("queue", job["queue"]), ("server", SERVER)]
    if job.get("account"):
        pairs.append(("Account_Name", job["account"]))
    pairs += [("Checkpoint", "u"), ("ctime", when(job["ctime"]))]
    depends = [job["depend"]] if job.get("depend") else []
    depends += [f"before{kind}:{other}.{SERVER}" for kind, other in job.get("before", ())]
    if depends:
        pairs.append(("depend", ",".join(depends)))
    pairs.append(("Error_Path", job["stderr"]))
    if has_run:
        pairs.append(("exec_host", job["exec_host"] if "on" not in job else exec_host(job)))
    if job["holds"] or "task" not in job:
        pairs.append(("Hold_Types", job["holds"] or "n"))
    pairs += [
        ("Join_Path", job.get("join", "n")),
        ("Keep_Files", "n"),
        ("Mail_Points", "a"),
        ("mtime", when(job["mtime"])),
        ("Output_Path", job["stdout"]),
        ("Priority", str(job["priority"])),
        *([] if "array" in job else [("qtime", when(job["ctime"]))]),
        ("Rerunable", "True"),
        *((f"Resource_List.{name}", value) for name, value in job["resources"]),
    ]
    if "session" in job:
        pairs.append(("session_id", str(job["session"])))
    pairs += [
        ("Variable_List", job["variables"]),
        ("euser", job["owner"]),
        ("egroup", job["group"]),
        ("queue_type", "E"),
    ]
    if job.get("comment"):
        pairs.append(("comment", job["comment"]))
    if "etime" in job:
        pairs.append(("etime", when(job["etime"])))
    if "exit_status" in job:
        pairs.append(("exit_status", str(job["exit_status"])))
    pairs.append(("submit_args", job["submit_args"]))
    if "task" in job:
        pairs.append(("job_array_id", str(job["task"])))
    elif "array" in job:
        pairs.append(("job_array_request", job["array"]))
    if has_run:
        pairs.append(("start_time", when(job["start_time"])))
        if state == "R":
            left = job["start_time"] + job["walltime"] - int(time.time())
            pairs.append(("Walltime.Remaining", str(left)))
        pairs.append(("start_count", str(job["start_count"])))
    pairs.append(("fault_tolerant", "False"))
    if "comp_time" in job:
        pairs.append(("comp_time", when(job["comp_time"])))
    pairs.append(("job_radix", "0"))
    if "total_runtime" in job:
        pairs.append(("total_runtime", job["total_runtime"]))
    pairs += [
        ("submit_host", SERVER),
        ("init_work_dir", job["directory"]),
        ("request_version", "1"),
    ]
    return pairs if job["release"].startswith("6.") else as_before_6(pairs)


def as_before_6(pairs: Pairs) -> Pairs:
    """Return 4.2's output, by its users' transcripts: fewer attributes, a host for each slot."""
    later = ("resources_used.energy_used", "request_version")
    shown: Pairs = []
    for name, value in pairs:
        if name == "exec_host":
            slots = [f"{SERVER}/{slot}" for slot in spread(value.partition("/")[2])]
            ports = "+".join("15003" for _ in slots)
            shown += [(name, "+".join(slots)), ("exec_port", ports)]
        elif name not in later:
            shown.append((name, value))
    return shown


def spread(text: str) -> Iterator[int]:
    """0, 1, 2, 4 of ``0-2,4``."""
    for part in text.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def exec_host(job: Job) -> str:
    return f"{SERVER}/{ranges(job['on'])}"


def accounting_of(job: Job) -> str:
    account = f" account={job['account']}" if job.get("account") else ""
    resources = " ".join(f"Resource_List.{n}={v}" for n, v in job["resources"])
    at = job["ctime"]
    nodes = dict(job["resources"]).get("nodes", "1")
    return (
        f"user={job['owner']} group={job['group']}{account} jobname={job['name']}"
        f" queue={job['queue']} ctime={at} qtime={at} etime={job['etime']}"
        f" start_count={job['start_count']} start={job['start_time']}"
        f" owner={job['owner']}@{SERVER} exec_host={exec_host(job)} {resources}"
        f" Resource_List.neednodes={nodes} "
    )


# qsub


ATTRIBUTES = {"depend", "group_list", "stagein", "stageout", "umask", "x"}
OWN_VARIABLES = {"PBS_O_WORKDIR", "PBS_O_HOST", "PBS_O_SERVER", "PBS_O_QUEUE"}
VALUED = "aAbcCdDejkKlmMNopPqrSTuvwWt"
DEFAULT_LARGEST_ARRAY = 10_000


def qsub(state: State, argv: Sequence[str]) -> bytes:
    if os.geteuid() == 0 and not state.config["root"]:
        raise Failed(1, "qsub can not be run as root\n")
    options, operands = parsed(argv)
    directives, script = read_script(operands)
    options = {**parsed(directives)[0], **options}
    if "d" in options and not os.path.isdir(options["d"]):
        raise Failed(2, f"[qsub: illegal -d value]\n{USAGE}")
    name = options.get("N", os.path.basename(operands[0]) if operands else "STDIN")
    if not re.fullmatch(r"[!-~]{0,236}", name):
        raise Failed(2, f"[qsub: illegal -N value]\n{USAGE}")
    if not -1024 <= int(options.get("p", 0)) <= 1023:
        raise Failed(2, f"[qsub: illegal -p value]\n{USAGE}")
    if options.get("q", QUEUE) not in state.queues:
        raise Failed(UNKNOWN_QUEUE, submit_error("Unknown queue MSG=requested queue not found"))
    job = new_job(state, argv, options, name)
    tasks = indices(options["t"]) if "t" in options else None
    dependencies = asked_dependencies(options.get("W", ""))
    with state.locked():
        job["number"] = state.next_number()
        job["id"] = str(job["number"])
        depend_on(state, job, dependencies)
        for letter, key in (("o", "stdout"), ("e", "stderr")):
            if letter in options.get("k", ""):
                job["kept"].append(key)
                path = f"{pwd.getpwnam(job['owner']).pw_dir}/{job['name']}.{letter}{job['number']}"
                job[key] = f"{SERVER}:{path}"
            if job[key] is None:
                path = f"{job['directory']}/{job['name']}.{letter}{job['number']}"
                job[key] = f"{SERVER}:{path}".replace("\n", "/")
        parts = [job] if tasks is None else [task_of(job, index) for index in tasks]
        if tasks is not None:
            job |= {"id": f"{job['number']}[]", "array": options["t"]}
            job["slot_limit"] = int(options["t"].partition("%")[2] or 0)
            for part in parts[job["slot_limit"] or len(parts) :]:
                part |= {"state": "H", "holds": part["holds"] or "l"}
            state.save(job)
        for part in parts:
            spooled = state.folder / f"spool/{part['id']}.SC"
            spooled.write_bytes(script)
            spooled.chmod(0o700)
            state.save(part)
            state.account("Q", part, f"queue={job['queue']}")
        state.schedule()
    return b"" if "z" in options else f"{name_of(job)}\n".encode()


def indices(text: str) -> list[int]:
    """``0-9%2``, ``1,5,10-12``: the indices of an array."""
    listed, _, limit = text.partition("%")
    found: list[int] = []
    for part in listed.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if match is None or not re.fullmatch(r"[0-9]*", limit):
            raise Failed(BAD_ARRAY, submit_error("Bad Job Array Request"))
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    if not found or len(found) > DEFAULT_LARGEST_ARRAY:
        raise Failed(BAD_ARRAY, submit_error("Bad Job Array Request"))
    return sorted(set(found))


def task_of(job: Job, index: int) -> Job:
    """One job of an array; its name and its outputs, whatever they are, get its index."""
    task = {**job, "id": f"{job['number']}[{index}]", "task": index}
    for key in ("name", "stdout", "stderr"):
        task[key] = f"{job[key]}-{index}"
    task["variables"] = f"PBS_ARRAYID={index},{job['variables']}"
    task["environment"] = {**job["environment"], "PBS_ARRAYID": str(index)}
    return task


def asked_dependencies(text: str) -> list[tuple[str, list[str]]]:
    """The dependencies in ``-W``: the kind and ids of each."""
    if not text:
        return []
    known = re.split(r",(?=[a-z_]+=)", text)
    if any(entry.partition("=")[0] not in ATTRIBUTES for entry in known):
        message = "Undefined attribute  MSG=detected presence of an unknown attribute"
        raise Failed(NO_ATTRIBUTE, submit_error(message))
    value = ",".join(e.partition("=")[2] for e in known if e.startswith("depend="))
    found = []
    for entry in filter(None, value.split(",")):
        match = DEPENDENCY.fullmatch(entry)
        if match is None:
            if re.fullmatch(r"after(?:ok|any|notok|start)?(?:array)?", entry):
                raise Failed(BAD_DEPENDENCY, submit_error("Invalid Job Dependency"))
            raise Failed(2, f"[qsub: illegal -W dependency value: '{value}']\n{USAGE}")
        found.append((match[1], match[2].split(":")))
    return found


def depend_on(state: State, job: Job, dependencies: list[tuple[str, list[str]]]) -> None:
    """Have a job wait for others, which know of it."""
    jobs = state.jobs()
    waits: list[list[Any]] = []
    shown: list[str] = []
    for kind, ids in dependencies:
        full = []
        for word in ids:
            counted = re.fullmatch(r"(.+\])\[([0-9]+)\]", word)
            count = int(counted[2]) if counted else None
            match = ID.fullmatch(counted[1] if counted else word)
            other = jobs.get(match[1]) if match and match[2] in (None, SERVER) else None
            if other is None or ("array" in other) != kind.endswith("array"):
                raise Failed(BAD_DEPENDENCY, submit_error("Invalid Job Dependency"))
            of = [j for j in jobs.values() if j["number"] == other["number"] and "task" in j]
            of = of if "array" in other else [other]
            verdict = fulfilled(kind, of, count)
            if verdict is False:
                raise Failed(BAD_DEPENDENCY, submit_error("Invalid Job Dependency"))
            if verdict is None:
                waits.append([kind, [j["id"] for j in of], count])
                full.append(name_of(other))
                stored = state.job(other["id"])
                stored.setdefault("before", []).append([kind.removeprefix("after"), job["id"]])
                state.save(stored)
        if full:
            shown.append(":".join([kind, *full]))
    if waits:
        job |= {"state": "H", "holds": job["holds"] + "s", "waits_for": waits}
        job["depend"] = ",".join(shown)
        job.pop("etime", None)


def submit_error(message: str) -> str:
    return f"qsub: submit error ({message})\n"


def parsed(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Options by letter, and operands; options may follow them."""
    options: dict[str, str] = {}
    operands: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            operands.append(word)
            continue
        letter = word[1]
        if letter in VALUED:
            value = word[2:] or (words.pop(0) if words else "")
            before = options.get(letter) if letter in "lvW" else None
            options[letter] = value if before is None else f"{before},{value}"
        elif letter in "hIVxXzfnE":
            options[letter] = ""
        elif letter == "F":
            options[letter] = word[2:] or words.pop(0)
        else:
            raise Failed(2, f"qsub: invalid option -- '{letter}'\n[exiting]\n{USAGE}")
    if len(operands) > 1:
        raise Failed(2, f"[index issues]\n{USAGE}")
    return options, operands


def read_script(operands: list[str]) -> tuple[list[str], bytes]:
    if operands:
        if not os.path.exists(operands[0]):
            reason = "No such file or directory"
            raise Failed(1, f"qsub: script file '{operands[0]}' cannot be loaded - {reason}\n")
        script = Path(operands[0]).read_bytes()
    else:
        script = sys.stdin.buffer.read()
    if script.startswith(b"\x7fELF"):
        raise Failed(1, "qsub:  file must be an ascii script\n")
    words: list[str] = []
    for line in script.split(b"\n"):
        if line.endswith(b"\r"):
            raise Failed(1, "qsub:  script is written in DOS/Windows text format\n")
        if line.strip() and not line.startswith((b"#", b":")):
            break
        if line.startswith(b"#PBS"):
            words += line[4:].decode("utf-8", "surrogateescape").split()
    return words, script


def new_job(state: State, argv: Sequence[str], options: dict[str, str], name: str) -> Job:
    person = pwd.getpwuid(os.geteuid())
    here = os.getcwd()
    resources, slots, walltime = requested(state, options.get("l", ""))
    now = int(time.time())
    variables = [("PBS_O_QUEUE", QUEUE)]
    variables += [
        (f"PBS_O_{variable}", os.environ[variable])
        for variable in ("HOME", "LOGNAME", "PATH", "MAIL", "SHELL", "LANG")
        if variable in os.environ
    ]
    for entry in filter(None, re.split(r"(?<!\\),", options.get("v", ""))):
        key, is_pair, value = entry.partition("=")
        if not key:
            raise Failed(3, "invalid -v syntax\n")
        variables.append((key, value if is_pair else os.environ.get(key, "")))
    if "V" in options:
        given = {key for key, _ in variables}
        variables += [pair for pair in os.environ.items() if pair[0] not in given | OWN_VARIABLES]
    variables += [
        ("PBS_O_WORKDIR", here.replace("\n", ",")),
        ("PBS_O_HOST", SERVER),
        ("PBS_O_SERVER", SERVER),
    ]
    held = "h" in options
    job = {
        "name": name,
        "release": state.config["release"],
        "owner": person.pw_name,
        "group": person.pw_name,
        "state": "H" if held else "Q",
        "holds": "u" if held else "",
        "queue": options.get("q", QUEUE),
        "account": options.get("A"),
        "ctime": now,
        "mtime": now,
        "priority": int(options.get("p", 0)),
        "resources": resources,
        "slots": slots,
        "walltime": walltime,
        "variables": ",".join(f"{k}={quoted(v)}" for k, v in variables),
        "environment": dict(variables),
        "shell": options.get("S", "/bin/sh"),
        "submit_args": " ".join(argv),
        "directory": options.get("d", here),
        "starts_in": options.get("d", person.pw_dir),
        "stdout": place(options.get("o"), here),
        "stderr": place(options.get("e"), here),
        "kept": [],
        "join": options.get("j", "n"),
    }
    if not held:
        job["etime"] = now
    return job


def quoted(value: str) -> str:
    return re.sub(r"([\\,'\"\n])", r"\\\1", value)


def place(path: str | None, here: str) -> str | None:
    if path is None:
        return None
    return f"{SERVER}:{path if path.startswith('/') else f'{here}/{path}'}"


def requested(state: State, text: str) -> tuple[list[list[str]], int, int]:
    """The resources as stored, the slots and the wall time in seconds."""
    resources: list[list[str]] = []
    for entry in filter(None, text.split(",")):
        name, _, value = entry.partition("=")
        if name not in ("nodes", "walltime", "mem", "vmem", "cput", "procs", "ncpus", "pmem"):
            raise Failed(
                UNKNOWN_RESOURCE, submit_error(f"Unknown resource type  Resource_List.{name}")
            )
        illegal = f"Illegal attribute or resource value for Resource_List.{name}"
        if name in ("walltime", "cput"):
            if not re.fullmatch(r"[0-9:.]+", value):
                raise Failed(BAD_VALUE, submit_error(illegal))
            value = clock(seconds_of(value))
        elif name.endswith("mem") and not re.fullmatch(r"[0-9]+[kmgtKMGT]?[bw]?", value):
            raise Failed(BAD_VALUE, submit_error(illegal))
        resources.append([name, value])
    nodes = dict(resources).get("nodes")
    if nodes is not None:
        resources.append(["nodect", nodes.partition(":")[0]])
    if "walltime" not in dict(resources):
        resources.append(["walltime", clock(DEFAULT_WALL_TIME)])
    if not {"nodes", "procs", "ncpus"} & dict(resources).keys():
        resources += [["nodes", "1"], ["nodect", "1"]]
    found = dict(resources)
    match = re.fullmatch(r"1(?::ppn=([0-9]+))?", found.get("nodes", "1"))
    slots = int(found.get("procs") or found.get("ncpus") or (match and match[1]) or 1)
    if match is None or slots > state.config["slots"]:
        raise Failed(TOO_MUCH, submit_error(NO_NODES))
    return resources, slots, seconds_of(found["walltime"])


def seconds_of(text: str) -> int:
    parts = [int(float(part)) for part in text.split(":")]
    return sum(p * u for p, u in zip(reversed(parts), (1, 60, 3600, 86400), strict=False))


# qstat


def qstat(state: State, argv: Sequence[str]) -> bytes:
    if "--version" in argv:
        release = state.config["release"]
        if not release.startswith("6."):
            sys.stderr.write(f"version: {release}\n")
            return b""
        return f"Version: {release}\nCommit: \n".encode()
    options = {a for a in argv if a.startswith("-")}
    ids = [a for a in argv if not a.startswith("-")]
    with state.locked():
        state.schedule()  # what a command that was killed could not start any more
        jobs = state.jobs()
    if "-Q" in options:
        return b"".join(queue_text(queue, jobs) for queue in state.queues)
    shown: list[Job] = []
    complaints: list[str] = []
    status = 0
    split = "-t" in options
    if not split and any(word.partition(".")[0].endswith("[]") for word in ids):
        ids = []  # all jobs, instead of the array that was asked for
    for word in ids:
        match = ID.fullmatch(word)
        if match is None:
            raise Failed(UNKNOWN_QUEUE, f"qstat: Unknown queue destination {word}\n")
        job = jobs.get(match[1]) if match[2] in (None, SERVER) else None
        if job is not None and "array" in job:
            shown += [j for j in jobs.values() if j["number"] == job["number"] and "task" in j]
        elif job is None:
            server = match[2] or SERVER
            complaints.append(f"qstat: Unknown Job Id Error {match[1]}.{server}\n")
            status = UNKNOWN
        else:
            shown.append(job)
    if not ids:
        shown = [j for j in jobs.values() if ("array" if split else "task") not in j]
    if "-x" in options:
        groups = [[j] for j in shown] if ids else [shown]
        text = "".join(
            output.render_xml([[("Job_Id", name_of(j)), *attributes_of(j)] for j in group])
            for group in groups
        ).encode("utf-8", "surrogateescape")
    elif "-f" in options:
        text = b"".join(map(job_text, shown))
    else:
        text = table(shown)
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
    if status:
        raise Failed(status, "".join(complaints))
    return b""


def job_text(job: Job) -> bytes:
    def when(seconds: int) -> str:
        return time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(seconds))

    pairs = [
        (name.encode(), value.encode("utf-8", "surrogateescape"))
        for name, value in attributes_of(job, when)
    ]
    return bytes(output.render_text(f"Job Id: {name_of(job)}".encode(), pairs))


def table(jobs: list[Job]) -> bytes:
    if not jobs:
        return b""
    lines = [
        "Job ID                    Name             User            Time Use S Queue",
        "------------------------- ---------------- --------------- -------- - -----",
    ]
    for job in jobs:
        name = job["name"] if len(job["name"]) <= 16 else "..." + job["name"][-13:]
        used = clock(job["used"]["cput"]) if job.get("used") else "0"
        lines.append(
            f"{name_of(job):<26} {name:<16} {job['owner']:<15} {used:>8} {job['state']} "
            f"{job['queue']:<15}"
        )
    return "".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape")


def queue_text(queue: str, jobs: dict[str, Job]) -> bytes:
    words = {"T": "Transit", "Q": "Queued", "H": "Held", "W": "Waiting", "R": "Running"}
    words |= {"E": "Exiting", "C": "Complete"}
    counts = dict.fromkeys(words, 0)
    inside = [job for job in jobs.values() if job["queue"] == queue]
    for job in inside:
        counts[job["state"]] += 1
    pairs = [
        ("queue_type", "Execution"),
        ("total_jobs", str(len(inside))),
        ("state_count", "".join(f"{words[s]}:{n} " for s, n in counts.items())),
        ("resources_default.walltime", clock(DEFAULT_WALL_TIME)),
        ("resources_default.nodes", "1"),
        ("mtime", "1795385177"),
        ("enabled", "True"),
        ("started", "True"),
    ]
    return bytes(
        output.render_text(
            f"Queue: {queue}".encode(), [(name.encode(), value.encode()) for name, value in pairs]
        )
    )


# qdel, qhold, qrls, qrerun, qsig


def change(command: str, act: Callable[[State, Job], None]) -> "Command":
    def run(state: State, argv: Sequence[str]) -> bytes:
        # qdel -t (recording qdel.array-t), with ranges as those of qsub (README.array_changes).
        some = set(indices(argv[1])) if argv[:1] == ("-t",) else None
        words = [a for a in argv[0 if some is None else 2 :] if not a.startswith("-")]
        if not words:
            raise Failed(2, f"usage: {command} …\n")
        failed: Failed | None = None
        for word in words:
            try:
                with state.locked():
                    for job in selected(state, command, word):
                        if some is None or job["task"] in some:
                            act(state, job | {"with_array": "[]" in word})
                    state.schedule()
            except Failed as error:
                failed = failed or error
        if failed:
            raise failed
        return b""

    return run


def selected(state: State, command: str, word: str) -> list[Job]:
    match = ID.fullmatch(word)
    if match is None:
        raise Failed(1, f"{command}: illegally formed job identifier: {word}\n")
    jobs = state.jobs()
    job = jobs.get(match[1]) if match[2] in (None, SERVER) else None
    if job is None:
        raise Failed(UNKNOWN, f"{command}: nonexistent job id: {word}\n")
    if job["owner"] != pwd.getpwuid(os.geteuid()).pw_name:
        raise Failed(
            PERMISSION,
            f"{command}: Unauthorized Request  MSG=operation not permitted {name_of(job)}\n",
        )
    if job["state"] == "C":
        raise Failed(
            BAD_STATE,
            f"{command}: Request invalid for state of job MSG=invalid state for job - COMPLETE "
            f"{name_of(job)}\n",
        )
    if "array" not in job:
        return [job]
    tasks = [j for j in jobs.values() if j["number"] == job["number"] and "task" in j]
    return [task for task in tasks if task["state"] != "C"]


def delete(state: State, job: Job) -> None:
    owner = job["owner"]
    if not job["with_array"]:  # of those that are deleted with their array there is no record
        state.account("D", job, f"requestor={owner}@{SERVER}")
    if job["state"] in ("Q", "H"):
        state.end(job, None)
        return
    job["deleted"] = True
    state.save(job)
    if "mom" in job:
        with contextlib.suppress(ProcessLookupError):
            os.kill(job["mom"], signal.SIGTERM)


def hold(state: State, job: Job) -> None:
    job["holds"] = "u" + job["holds"].replace("u", "")
    if job["state"] == "Q":
        job["state"] = "H"
    job["mtime"] = int(time.time())
    state.save(job)


def release(state: State, job: Job) -> None:
    job["holds"] = job["holds"].replace("u", "")
    if job["state"] == "H" and not job["holds"]:
        job |= {"state": "Q", "etime": int(time.time())}
    job["mtime"] = int(time.time())
    state.save(job)


def qalter(state: State, argv: Sequence[str]) -> bytes:
    options, words = parsed(argv)

    def alter(state: State, job: Job) -> None:
        # All or nothing, and the resources that are named (qalter(1B)); recording qstat-f.qalter:
        # the paths of outputs keep the old name.
        if job["state"] not in "QHW":
            raise Failed(
                RUNS, f"qalter: Cannot modify attribute while job running  {name_of(job)}\n"
            )
        asked = [pair for pair in job["resources"] if pair[0] != "nodect"]
        named = [entry.split("=", 1) for entry in filter(None, options.get("l", "").split(","))]
        merged = ",".join("=".join(pair) for pair in (dict(asked) | dict(named)).items())
        try:
            resources, slots, walltime = requested(state, merged)
        except Failed as error:
            message = str(error).removeprefix("qsub: submit error (").removesuffix(")\n")
            raise Failed(error.status, f"qalter: {message} {name_of(job)}\n") from None
        state.save(
            job
            | {
                "name": options.get("N", job["name"]),
                "account": options.get("A", job["account"]),
                "priority": int(options.get("p") or job["priority"]),
                "resources": resources,
                "slots": slots,
                "walltime": walltime,
                "mtime": int(time.time()),
            }
        )

    if not re.fullmatch(r"[!-~]{0,236}", options.get("N", "")):
        raise Failed(2, "qalter: illegal -N value\n")
    return change("qalter", alter)(state, words)


def qmove(state: State, argv: Sequence[str]) -> bytes:
    queue, *words = argv

    def move(state: State, job: Job) -> None:
        # qmove(1B): not while it runs; the words are those of qsub's refusal.
        if queue not in state.queues:
            message = "Unknown queue MSG=requested queue not found"
            raise Failed(UNKNOWN_QUEUE, f"qmove: {message} {name_of(job)}\n")
        if job["state"] not in "QHW":
            message = f"Request invalid for state of job MSG=invalid state for job - {job['state']}"
            raise Failed(BAD_STATE, f"qmove: {message} {name_of(job)}\n")
        state.save(job | {"queue": queue, "mtime": int(time.time())})

    return change("qmove", move)(state, words)


def require_operator(state: State, job: Job, command: str) -> None:
    # qsig(1B), qrerun(8B); recording qrerun.not-manager.
    if not state.config["operator"]:
        raise Failed(
            PERMISSION,
            f"{command}: Unauthorized Request  MSG=additional permissions required "
            f"(ATR_DFLAG_MGWR | ATR_DFLAG_OPWR) {name_of(job)}\n",
        )


def require_started(job: Job, command: str) -> None:
    # qsig(1B), qrerun(8B): refused for a job that does not run.
    if job["state"] not in "RS" or "session" not in job:
        raise Failed(
            BAD_STATE,
            f"{command}: Request invalid for state of job MSG=invalid state for job - "
            f"{job['state']} {name_of(job)}\n",
        )


def rerun(state: State, job: Job) -> None:
    require_operator(state, job, "qrerun")
    require_started(job, "qrerun")
    job["rerun"] = True
    state.save(job)
    with contextlib.suppress(ProcessLookupError):
        os.kill(job["mom"], signal.SIGTERM)


def qsig(state: State, argv: Sequence[str]) -> bytes:
    # Without -s it sends TERM (qsig(1B)).
    name, *rest = argv[1:] if argv[:1] == ("-s",) else ("TERM", *argv)

    def send(state: State, job: Job) -> None:
        if name in ("suspend", "resume"):
            require_operator(state, job, "qsig")
        require_started(job, "qsig")
        if name == "suspend":
            clear(job["session"], signal.SIGSTOP)
            state.save(job | {"state": "S", "mtime": int(time.time())})
        elif name == "resume":
            clear(job["session"], signal.SIGCONT)
            state.save(job | {"state": "R", "mtime": int(time.time())})
        else:
            # To all processes of the session: tracejob.rerun shows the mom's ``kill_task``.
            clear(job["session"], signal.Signals[f"SIG{name.removeprefix('SIG')}"])

    return change("qsig", send)(state, rest)


# tracejob, pbsnodes


def tracejob(state: State, argv: Sequence[str]) -> bytes:
    number = argv[-1].partition(".")[0]
    out: list[str] = []
    found = False
    for day in sorted((state.folder / "home/server_priv/accounting").iterdir()):
        for line in day.read_bytes().decode("utf-8", "surrogateescape").split("\n"):
            parts = line.split(";", 3)
            if len(parts) == 4 and parts[2].partition(".")[0] == number:
                if not found:
                    out.append(f"\nJob: {parts[2]}\n\n")
                    found = True
                out.append(f"{parts[0]}  A    {parts[3]}\n")
    folder = state.folder / "home"
    today = time.strftime("%Y%m%d")
    for name in (*([] if found else ["server_priv/accounting"]), "mom_logs", "sched_logs"):
        sys.stderr.write(f"{folder}/{name}/{today}: No matching job records located\n")
    return "".join(out).encode("utf-8", "surrogateescape")


def pbsnodes(state: State, argv: Sequence[str]) -> bytes:
    names = [a for a in argv if not a.startswith("-")]
    if any(name != SERVER for name in names):
        raise Failed(1, "pbsnodes: Unknown node  MSG=cannot locate specified node\n")
    with state.locked():
        running = [j for j in state.jobs().values() if "on" in j]
    slots = state.config["slots"]
    busy = sum(len(j["on"]) for j in running) >= slots
    jobs = ",".join(f"{ranges(j['on'])}/{name_of(j)}" for j in running)
    on_it = " ".join(name_of(j) for j in running)
    status = (
        f"opsys=linux,ncpus={os.cpu_count()},physmem=24684096kb,loadave=0.20,gres=,state=free,"
        f"varattr= ,version=6.1.3.h5,rectime={int(time.time())},jobs={on_it}"
    )
    pairs = [
        ("state", "job-exclusive" if busy else "free"),
        ("power_state", "Running"),
        ("np", str(slots)),
        ("ntype", "cluster"),
        *([("jobs", jobs)] if jobs else []),
        ("status", status),
        ("mom_service_port", "15002"),
        ("mom_manager_port", "15003"),
    ]
    if "-x" in argv:
        body = "".join(f"<{n}>{output.escaped(v)}</{n}>" for n, v in [("name", SERVER), *pairs])
        return f"<Data><Node>{body}</Node></Data>\n".encode()
    return (f"{SERVER}\n" + "".join(f"     {n} = {v}\n" for n, v in pairs) + "\n").encode()


# The host: one process for each job.


def mom(state: State, argv: Sequence[str]) -> bytes:
    job_id = argv[0]
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    told: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: told.append("delete"))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with state.locked():
        job = state.job(job_id)
        if job["state"] != "R" or "mom" in job:
            return b""  # it was not started after all, or by another one
        process = spawn(state, job)
        job |= {"mom": os.getpid(), "session": process.pid, "began": time.time()}
        state.save(job)
    if job.get("deleted"):
        told.append("delete")
    status, used = watch(state, job, process, reading, told)
    clear(process.pid, signal.SIGKILL)
    with state.locked():
        job = state.job(job_id)
        if job.pop("rerun", False) and not job.get("deleted"):
            state.put_back(job)
            return b""
        deliver(state, job)
        job |= {"used": used, "exec_host": exec_host(job)}
        text = accounting_of(job)
        state.end(job, status)
        state.account(
            "E",
            job,
            f"{text}session={job['session']} total_execution_slots={job['slots']}"
            f" unique_node_count=1 end={job['comp_time']} Exit_status={status}"
            f" resources_used.cput={used['cput']} resources_used.energy_used=0"
            f" resources_used.mem={used['mem']}kb resources_used.vmem={used['vmem']}kb"
            f" resources_used.walltime={clock(used['walltime'])}",
        )
        state.schedule()
    return b""


def spawn(state: State, job: Job) -> "subprocess.Popen[bytes]":
    person = pwd.getpwnam(job["owner"])
    environment = {
        "HOME": person.pw_dir,
        "USER": person.pw_name,
        "LOGNAME": person.pw_name,
        "SHELL": person.pw_shell,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBID": name_of(job),
        "PBS_JOBNAME": job["name"],
        "PBS_QUEUE": job["queue"],
        "PBS_NP": str(job["slots"]),
        **job["environment"],
    }
    spool = state.folder / "spool"
    script = spool / f"{job['id']}.SC"
    memory = bytes_of(dict(job["resources"]).get("mem"))

    def limited() -> None:
        if memory is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    with (
        written_to(spool, job, "OU", "stdout").open("ab") as out,
        written_to(spool, job, "ER", "stderr").open("ab") as err,
    ):
        process = subprocess.Popen(
            [job["shell"]],
            env=environment,
            cwd=job["starts_in"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=limited,
        )
    # As Torque does: the shell reads the script's name, and runs it.
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        # Torque Administrator Guide, parameters of the mom: $exec_with_exec.
        become = "exec " if state.config["exec_with_exec"] else ""
        pipe.write(f"{become}{script}\n".encode())
    return process


def written_to(spool: Path, job: Job, suffix: str, key: str) -> Path:
    """Return the path of a job's output while it runs; output kept on the host is there at once."""
    suffix, key = JOINED.get(job["join"], (suffix, key))
    if key in job["kept"]:
        return Path(job[key].partition(":")[2])
    return spool / f"{job['id']}.{suffix}"


JOINED = {"oe": ("OU", "stdout"), "eo": ("ER", "stderr")}


def bytes_of(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+)([kmgt]?)b?", text.lower())
    assert match is not None
    return int(match[1]) << 10 * " kmgt".index(match[2] or " ")


def watch(
    state: State, job: Job, process: "subprocess.Popen[bytes]", wakeup: int, told: list[str]
) -> tuple[int, dict[str, int]]:
    """Wait for the end; returns the exit status and the usage."""
    begun = time.monotonic()
    kill_at: float | None = None
    verdict: int | None = None
    used = {"cput": 0, "mem": 0, "vmem": 0, "walltime": 0}
    while True:
        done, code, usage = os.wait4(process.pid, os.WNOHANG)
        passed = time.monotonic() - begun
        if done:
            break
        cput, mem, vmem = measured(process.pid)
        used["cput"] = max(used["cput"], cput)
        used["mem"], used["vmem"] = max(used["mem"], mem), max(used["vmem"], vmem)
        used["walltime"] = int(passed)
        with state.locked():
            current = state.job(job["id"])
            current["used"] = used
            state.save(current)
        if kill_at is None and (told or passed >= job["walltime"]):
            verdict = 256 + signal.SIGTERM if told else -11
            clear(process.pid, signal.SIGTERM)
            kill_at = time.monotonic() + 2
        if kill_at is not None and time.monotonic() >= kill_at:
            clear(process.pid, signal.SIGKILL)
            kill_at = time.monotonic() + 2
        due = kill_at if kill_at is not None else begun + job["walltime"]
        select.select([wakeup], [], [], max(0.01, min(1.0, due - time.monotonic())))
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 512)
    used["cput"] = max(used["cput"], int(usage.ru_utime + usage.ru_stime))
    used["mem"] = max(used["mem"], usage.ru_maxrss)
    used["walltime"] = int(passed)
    code = os.waitstatus_to_exitcode(code)
    return verdict if verdict is not None else (code if code >= 0 else 256 - code), used


def members(session: int) -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    yield int(entry.name), fields


def measured(session: int) -> tuple[int, int, int]:
    """CPU seconds, resident and virtual kB of a session."""
    ticks = resident = virtual = 0
    for _, fields in members(session):
        ticks += sum(map(int, fields[11:15]))
        virtual += int(fields[20]) >> 10
        resident += int(fields[21]) * 4
    return ticks // os.sysconf("SC_CLK_TCK"), resident, virtual


def clear(session: int, number: int) -> None:
    for pid, _ in members(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def deliver(state: State, job: Job) -> None:
    for suffix, key in (("OU", "stdout"), ("ER", "stderr")):
        if key in job["kept"] or JOINED.get(job["join"], (suffix, key)) != (suffix, key):
            continue
        spooled = state.folder / f"spool/{job['id']}.{suffix}"
        path = job[key].partition(":")[2]
        if path != "/dev/null":
            try:
                shutil.copyfile(spooled, path)
            except OSError:
                undelivered = state.folder / "undelivered"
                undelivered.mkdir(exist_ok=True)
                shutil.copyfile(spooled, undelivered / spooled.name)
        spooled.unlink()
    (state.folder / f"spool/{job['id']}.SC").unlink()


COMMANDS = {
    "qsub": qsub,
    "qstat": qstat,
    "qdel": change("qdel", delete),
    "qhold": change("qhold", hold),
    "qrls": change("qrls", release),
    "qrerun": change("qrerun", rerun),
    "qsig": qsig,
    "qalter": qalter,
    "qmove": qmove,
    "tracejob": tracejob,
    "pbsnodes": pbsnodes,
    "mom": mom,
}


def away(command: str) -> tuple[int, str]:
    attempts = 3 if command == "qstat" else 1
    if command == "pbsnodes":
        last = f"pbsnodes: cannot connect to server {SERVER}, error=111 (Connection refused)\n"
        return 1, CANNOT_CONNECT + last
    text = CANNOT_CONNECT * attempts
    text += f"{command}: cannot connect to server {SERVER} (errno=111) Connection refused\n"
    if command == "qstat":
        text += "qstat: Error (111 - Connection refused) \n"
    return 111, text


def main(folder: str, command: str, *argv: str) -> int:
    state = State(Path(folder))
    try:
        if command not in ("mom", "tracejob") and (state.folder / "down").exists():
            raise Failed(*away(command))
        sys.stdout.buffer.write(COMMANDS[command](state, argv))
    except Failed as error:
        sys.stderr.buffer.write(str(error).encode("utf-8", "surrogateescape"))
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
