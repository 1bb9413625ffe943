"""The commands of OpenPBS over a folder of files; run with that folder, a name and arguments.

A process beside each running job plays the execution host: it starts the job in a session of its
own, enforces its limits, delivers its output and tells the server how it ended.
"""

import collections
import contextlib
import fcntl
import getopt
import json
import os
import pwd
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import output

HOST = "pbshead"
USAGE = "usage: qsub [-a date_time] [-A account_string] [-c interval]\n"
QSUB_OPTIONS = "a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:VW:v:Xz"
QUEUES = {"workq": ("True", "True"), "closed": ("False", "True")}
RESOURCES = {"ncpus", "mem", "walltime", "cput", "select", "place", "nodes"}
ATTRIBUTES = {"depend", "group_list", "umask", "sandbox"}
CONDITIONS = {"after", "afterok", "afternotok", "afterany"}
LARGEST_ARRAY = 10000
FORBIDDEN_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]")


class Refused(Exception):
    """A command's refusal: exit status and words."""

    def __init__(self, status, words):
        super().__init__(words)
        self.status, self.words = status, words


class Server:
    """The server's state, while its lock is held."""

    def __init__(self, state):
        self.state = state
        self.config = json.loads((state / "config.json").read_text())
        self.jobs_folder = state / "jobs"
        self.jobs_folder.mkdir(exist_ok=True)

    @property
    def queues(self):
        """The queues by name: whether they are enabled, and started."""
        return QUEUES | dict.fromkeys(self.config.get("queues", ()), ("True", "True"))

    @contextlib.contextmanager
    def locked(self):
        with (self.state / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def ids(self):
        """Return the ids of all jobs: ``45``, ``46[]``, ``46[1]`` …, in this order."""
        return sorted((path.stem for path in self.jobs_folder.glob("*.json")), key=order_of)

    def exists(self, job_id):
        return (self.jobs_folder / f"{job_id}.json").exists()

    def load(self, job_id):
        return json.loads((self.jobs_folder / f"{job_id}.json").read_text())

    def all(self):
        return [self.load(job_id) for job_id in self.ids()]

    def current(self):
        """Return the jobs that are not in the history yet, without reading what is."""
        ended = {path.stem for path in self.jobs_folder.glob("*.ended")}
        return [self.load(job_id) for job_id in self.ids() if job_id not in ended]

    def save(self, job):
        job["mtime"] = int(time.time())
        replace(self.jobs_folder / f"{job['id']}.json", json.dumps(job))
        if job["state"] == "F":
            (self.jobs_folder / f"{job['id']}.ended").touch()

    def forget(self, job):
        (self.jobs_folder / f"{job['id']}.json").unlink()

    def parent_of(self, job):
        """Return the array that a task belongs to; None for a job of its own."""
        return self.load(f"{job['number']}[]") if "index" in job else None

    def tasks_of(self, array):
        return [self.load(f"{array['number']}[{index}]") for index in indices_of(array["array"])]

    def next_number(self):
        path = self.state / "sequence"
        number = int(path.read_text()) + 1 if path.exists() else 100
        replace(path, str(number))
        return number

    def check_up(self, status, words):
        if (self.state / "down").exists():
            raise Refused(status, f"Connection refused\n{words}")

    def account(self, kind, job, words):
        folder = self.state / "server_priv" / "accounting"
        folder.mkdir(parents=True, exist_ok=True)
        now = time.localtime()
        line = f"{time.strftime('%m/%d/%Y %H:%M:%S', now)};{kind};{job['id']}.{HOST};{words}\n"
        with (folder / time.strftime("%Y%m%d", now)).open("a", errors="surrogateescape") as log:
            log.write(line)

    def note(self, job, words):
        """Write a line of the server's own log, which anyone may read."""
        now = time.strftime("%m/%d/%Y %H:%M:%S", time.localtime())
        with (self.state / "server_log").open("a") as log:
            log.write(f"{now};{job['id']};{words}\n")

    def schedule(self):
        """Start what has room."""
        jobs = self.current()
        total = int(self.config.get("ncpus", 64))
        running = [job for job in jobs if job["state"] in ("R", "E")]
        used = sum(job["ncpus"] for job in running)
        arrays = {job["number"]: job for job in jobs if "array" in job}
        busy = collections.Counter(job["number"] for job in running)
        released = False
        for job in jobs:
            if job["state"] != "Q" or "array" in job:
                continue
            if "index" in job:
                array = arrays[job["number"]]
                most = array["max_running"]
                if array["state"] == "H" or (most and busy[job["number"]] >= most):
                    continue
            if job["ncpus"] > total:
                job["comment"] = (
                    "Can Never Run: Insufficient amount of resource: ncpus "
                    f"(R: {job['ncpus']} A: {total} T: {total})"
                )
                self.save(job)
            elif used + job["ncpus"] <= total:
                used += job["ncpus"]
                busy[job["number"]] += 1
                released |= self.start(job)
            else:
                # Recording qstat-f-json.queued of 23.06.06 (R: 8 A: 4 T: 8).
                job["comment"] = (
                    "Not Running: Insufficient amount of resource: ncpus "
                    f"(R: {job['ncpus']} A: {total - used} T: {total})"
                )
                self.save(job)
        if released:
            self.schedule()

    def start(self, job):
        """Start a job; return whether another one waited for that alone."""
        now = int(time.time())
        moment = time.strftime("%a %b %d at %H:%M", time.gmtime(now))
        job |= {
            "state": "R",
            "substate": 42,
            "stime": now,
            "run_count": job["run_count"] + 1,
            "comment": f"Job run at {moment} on ({HOST}:ncpus={job['ncpus']})",
        }
        self.save(job)
        self.account("S", job, accounting_words(job) + f" start={now}")
        vnode = f"({HOST}:ncpus={job['ncpus']})"
        self.note(job, f"Job Run at request of Scheduler@{HOST} on exec_vnode {vnode}")
        array, released = self.parent_of(job), False
        if array is not None and array["state"] != "B":
            began = f"Job Array Began at {moment}"
            array |= {"state": "B", "substate": 70, "stime": now, "comment": began}
            self.save(array)
            self.account("S", array, accounting_words(array) + f" start={now}")
            released = self.release_dependents(array, "after")
        if array is None:
            released = self.release_dependents(job, "after")
        subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                "-B",
                __file__,
                str(self.state),
                "_mom",
                job["id"],
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={},
        )
        return released

    def put_back(self, job):
        """Queue a job whose run ``qrerun`` has ended; its runs stay counted."""
        for suffix in ("kill", "session", "used"):
            (self.jobs_folder / f"{job['id']}.{suffix}").unlink(missing_ok=True)
        self.save(job | {"state": "Q", "substate": 10, "stime": None, "comment": None})
        self.schedule()

    def finish(self, job, status, *, how):
        """Put a job into the history, or forget it where the site keeps none."""
        now = int(time.time())
        if status is not None:
            job["Exit_status"] = status
            used = job["used"]
            wall = clock(now - job["stime"])
            self.note(
                job,
                f"Exit_status={status} resources_used.cpupercent=0"
                f" resources_used.cput={clock(used['cput'])} resources_used.mem={used['mem']}kb"
                f" resources_used.ncpus={job['ncpus']} resources_used.vmem={used['mem']}kb"
                f" resources_used.walltime={wall}",
            )
            self.account(
                "E",
                job,
                accounting_words(job) + f" start={job['stime']} exec_host={HOST}/0 session=0"
                f" end={now} Exit_status={status} resources_used.cput={clock(used['cput'])}"
                f" resources_used.mem={used['mem']}kb"
                f" resources_used.walltime={wall} run_count=1",
            )
        comment = job.get("comment")
        job["comment"] = f"{comment} and {how}" if comment else None
        deleted = how.startswith("terminated")
        # One that its dependency ended has the substate of one that finished.
        finished = status == 0 or how == "aborted"
        job |= {
            "state": "X" if "index" in job else "F",
            "substate": 91 if deleted else 92 if finished else 93,
            "history_timestamp": now,
        }
        self.save(job)
        if "index" in job:
            self.finish_array(self.parent_of(job), status)
        else:
            self.leave(job)
        self.schedule()

    def finish_array(self, array, status):
        """Note the end of a task, and end an array whose tasks have all ended.

        Its exit status is that of the task that ended last, as 0 or 1: recording
        qstat-xf-json.mixed shows 32[] with 1, qstat-x-E-f-json.40-ids the same with 0.
        """
        tasks = self.tasks_of(array)
        if status is not None:
            array |= {"Exit_status": int(status != 0), "Stageout_status": 1}
        if any(task["state"] != "X" for task in tasks):
            self.save(array)
            return
        status = array.setdefault("Exit_status", 0)
        now = int(time.time())
        words = accounting_words(array) + f" start={array['stime']} session=0 end={now}"
        self.account("E", array, f"{words} Exit_status={status} run_count=0")
        deleted = array.get("deleted_by") or any(task["substate"] == 91 for task in tasks)
        how = "terminated" if deleted else "failed" if status else "finished"
        array["comment"] = f"{array['comment']} and {how}" if array.get("comment") else None
        array |= {
            "state": "F",
            "substate": {"terminated": 91, "failed": 93, "finished": 92}[how],
            "history_timestamp": now,
            "Stageout_status": 1,
        }
        self.leave(array)

    def leave(self, job):
        """Put a job into the history, or forget it where the site keeps none; tell dependents."""
        tasks = self.tasks_of(job) if "array" in job else []
        for one_of_them in [job, *(task | {"state": "F"} for task in tasks)]:
            if self.config.get("history", True):
                self.save(one_of_them)
            else:
                self.forget(one_of_them)
        self.release_dependents(job, "after")
        succeeded = job.get("Exit_status") == 0
        self.release_dependents(job, "afterany", "afterok" if succeeded else "afternotok")
        self.abort_dependents(job, "afternotok" if succeeded else "afterok")

    def dependents_of(self, job, conditions):
        for other, condition in self.waiting_for(job):
            if condition in conditions:
                yield other, [[condition, job["id"]]]

    def waiting_for(self, job):
        """Yield the jobs that still wait for one, and for what."""
        for condition, job_id in job.get("dependents", []):
            other = self.load(job_id) if self.exists(job_id) else {"state": "F"}
            if other["state"] not in ("F", "X") and [condition, job["id"]] in other["depends"]:
                yield other, condition

    def release_dependents(self, job, *conditions):
        """Let jobs that wait for this go on; return whether there were any."""
        released = False
        for other, met in self.dependents_of(job, conditions):
            other["depends"] = [pair for pair in other["depends"] if pair not in met]
            if not other["depends"]:
                lift_hold(other, "s")
            self.save(other)
            released = True
        return released

    def abort_dependents(self, job, *conditions):
        for other, _ in self.dependents_of(job, conditions):
            self.abort(other, f"Job deleted as result of dependency on job {job['id']}.{HOST}")

    def abort(self, job, words):
        """End a job whose dependency cannot be fulfilled."""
        self.account("A", job, words)
        self.note(job, words)
        if "array" in job:
            for task in self.tasks_of(job):
                self.save(task | {"state": "X", "substate": 92, "history_timestamp": mtime()})
            job |= {"state": "F", "substate": 92, "history_timestamp": mtime()}
            self.leave(job)
        else:
            self.finish(job, None, how="aborted")


def replace(path, text):
    """Write a file anew, so that a command that is killed leaves it whole."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.rename(path)


def mtime():
    return int(time.time())


def order_of(job_id):
    number, _, index = job_id.partition("[")
    return int(number), int(index.rstrip("]") or -1) if index else -2


def indices_of(array):
    first, last, step = array
    return range(first, last + 1, step)


def lift_hold(job, kind):
    """Take one kind of hold from a job; without any it waits for its turn."""
    job["hold"] = job["hold"].replace(kind, "") or "n"
    if job["hold"] == "n" and job["state"] == "H":
        began = "array" in job and job["stime"] is not None
        job |= {"state": "B", "substate": 70} if began else {"state": "Q", "substate": 10}


def accounting_words(job):
    account = f' account="{job["account"]}"' if job["account"] else ""
    return (
        f"user={job['owner']} group={job['owner']}{account} project=_pbs_project_default"
        f" jobname={job['name']} queue={job['queue']} ctime={job['ctime']} qtime={job['ctime']}"
        f" etime={job['ctime']} Resource_List.ncpus={job['ncpus']}"
    )


def clock(seconds):
    seconds = int(seconds)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def moment(epoch):
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(epoch)).replace("  ", " ", 0)


# ---- qsub


def qsub(server, argv):
    """Take a job from standard input or a file."""
    options, rest = qsub_options(argv)
    if len(rest) > 1:
        raise Refused(2, USAGE.rstrip())
    raw = sys.stdin.buffer.read() if not rest or rest == ["-"] else Path(rest[0]).read_bytes()
    if b"\r\n" in raw:
        raise Refused(1, "qsub: script contains cr, lf")
    given = merged(directives(raw), options)
    name = given.get("-N", "STDIN")
    if len(name) > 230:
        raise Refused(2, "qsub: Job name is too long ")
    if not name or FORBIDDEN_IN_NAMES.search(name):
        raise Refused(2, "qsub: illegal -N value\n" + USAGE.rstrip())
    if not -1024 <= int(given.get("-p", 0)) <= 1023:
        raise Refused(2, "qsub: illegal -p value\n" + USAGE.rstrip())
    server.check_up(162, f"qsub: cannot connect to server {HOST} (errno=15010)")
    queue = given.get("-q", "workq")
    if queue not in server.queues:
        raise Refused(170, "qsub: Unknown queue")
    if server.queues[queue][0] != "True":
        raise Refused(173, "qsub: Queue is not enabled")
    asked = resources(given["-l"])
    array = array_range(server, given["-J"]) if "-J" in given else None
    suffix = ".^array_index^" if array else ""
    account = pwd.getpwuid(os.geteuid()).pw_name
    cwd = os.getcwd()
    variables = [
        ["PBS_O_HOME", os.environ.get("HOME", "")],
        ["PBS_O_LANG", os.environ.get("LANG", "")],
        ["PBS_O_LOGNAME", os.environ.get("LOGNAME", "")],
        ["PBS_O_PATH", os.environ.get("PATH", "")],
        ["PBS_O_SHELL", os.environ.get("SHELL", "")],
        ["PBS_O_INTERACTIVE_AUTH_METHOD", "resvport"],
        ["PBS_O_INTERACTIVE_ENCRYPT_METHOD", ""],
        ["PBS_O_WORKDIR", cwd],
        ["PBS_O_SYSTEM", "Linux"],
        *(exported() if "-V" in given else ()),
        *(pair.split("=", 1) for pair in filter(None, given.get("-v", "").split(","))),
        ["PBS_O_QUEUE", queue],
        ["PBS_O_HOST", HOST],
    ]
    now = int(time.time())
    with server.locked():
        number = server.next_number()
        depends, rejection = dependencies(server, given["-W"])
        holds = ("u" if "-h" in given else "") + ("s" if depends else "")
        job = {
            "number": number,
            "id": f"{number}[]" if array else str(number),
            "name": name,
            "owner": account,
            "state": "H" if holds else "Q",
            "substate": 22 if depends else 20 if holds else 10,
            "hold": holds or "n",
            "depends": depends,
            "queue": queue,
            "account": given.get("-A", ""),
            "ctime": now,
            "stime": None,
            "output": os.path.join(cwd, given.get("-o") or f"{name}.o{number}{suffix}"),
            "error": os.path.join(cwd, given.get("-e") or f"{name}.e{number}{suffix}"),
            "join": given.get("-j", "n"),
            "priority": given.get("-p", "0"),
            "asked": asked["list"],
            "ncpus": asked["ncpus"],
            "mem_kb": asked["mem_kb"],
            "walltime": asked["walltime"],
            "variables": variables,
            "arguments": " ".join(argv),
            "run_count": 0,
            "used": {"cput": 0, "mem": 0},
        }
        (server.jobs_folder / f"{number}.SC").write_bytes(raw)
        (server.jobs_folder / f"{number}.SC").chmod(0o700)
        if array:
            job |= {"array": array[:3], "max_running": array[3]}
            for index in indices_of(job["array"]):
                server.save(task_of(job, index))
        server.save(job)
        for condition, wanted in depends:
            if server.exists(wanted):
                other = server.load(wanted)
                other.setdefault("dependents", []).append([condition, job["id"]])
                server.save(other)
        server.account("Q", job, accounting_words(job))
        whose = f"{account}@{HOST}"
        server.note(
            job,
            f"Job Queued at request of {whose}, owner = {whose}, job name = {name},"
            f" queue = {queue}",
        )
        if rejection:
            server.abort(job, rejection)
        server.schedule()
    print(f"{job['id']}.{HOST}")


def exported():
    """Return the variables that ``-V`` takes along: all but PBS's own."""
    return [[name, value] for name, value in os.environ.items() if not name.startswith("PBS_")]


def array_range(server, text):
    """Return first, last, step and how many may run at once of ``1-5:2%2``."""
    match = re.fullmatch(r"([0-9]+)-([0-9]+)(?::([0-9]+))?(?:%([0-9]+))?", text)
    unknown = match and match[4] and not server.config.get("limits_arrays", True)
    if match is None or int(match[1]) >= int(match[2]) or unknown:
        raise Refused(2, "qsub: illegal -J value\n" + USAGE.rstrip())
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if len(range(first, last + 1, step)) > LARGEST_ARRAY:
        raise Refused(3, "qsub: Array job exceeds server or queue size limit")
    return first, last, step, int(match[4] or 0)


def task_of(array, index):
    """Return one task of an array, as it is before it begins."""
    left_out = ("array", "max_running", "arguments", "depends", "dependents")
    task = {name: value for name, value in array.items() if name not in left_out}
    return task | {
        "id": f"{array['number']}[{index}]",
        "index": index,
        "state": "Q",
        "substate": 10,
        "hold": "n",
        "output": array["output"].replace("^array_index^", str(index)),
        "error": array["error"].replace("^array_index^", str(index)),
    }


def dependencies(server, attributes):
    """Return what a job waits for, pairs of condition and id, and why it never can begin."""
    waits, rejection = [], None
    lists = ""
    for text in attributes:
        name, _, value = text.partition("=")
        if name not in ATTRIBUTES:
            raise Refused(154, "qsub: Error (15002) submitting job")
        lists = value if name == "depend" else lists
    if not lists:
        return waits, rejection
    for part in lists.split(","):
        condition, *jobs = part.split(":")
        if condition not in CONDITIONS or not jobs:
            raise Refused(2, "qsub: illegal -W value\n" + USAGE.rstrip())
        for word in jobs:
            match = re.fullmatch(rf"([0-9]+(?:\[[0-9]*\])?)(?:\.{HOST})?", word)
            if match is None:
                raise Refused(2, "qsub: illegal -W value\n" + USAGE.rstrip())
            reply = None
            if not server.exists(match[1]):
                reply = f"code=15001, aux=0, type=52, from @{HOST} Unknown Job Id"
            elif not_to_be_met(server.load(match[1]), condition):
                words = "Finished job did not satisfy dependency"
                reply = f"code=15229, aux=0, type=52, from @{HOST} {words}"
            if reply is not None:
                rejection = f"Reject reply {reply}"
            if reply is not None or not is_met(server.load(match[1]), condition):
                waits.append([condition, match[1]])
    return waits, rejection


def is_met(job, condition):
    ended = job["state"] in ("F", "X")
    succeeded = ended and job.get("Exit_status") == 0
    return {
        "after": job["stime"] is not None,
        "afterok": succeeded,
        "afternotok": ended and not succeeded,
        "afterany": ended,
    }[condition]


def not_to_be_met(job, condition):
    return job["state"] in ("F", "X") and not is_met(job, condition)


def qsub_options(argv):
    try:
        return getopt.getopt(argv, QSUB_OPTIONS)
    except getopt.GetoptError as error:
        raise Refused(2, f"qsub: invalid option -- '{error.opt}'\n{USAGE.rstrip()}") from None


def directives(raw):
    """Return the options in the ``#PBS`` lines before the first command."""
    found = []
    for line in raw.split(b"\n"):
        if re.match(rb"[ \t]*#PBS\b", line):
            words = line.decode("utf-8", "surrogateescape").split()[1:]
            found += qsub_options(words)[0]
        elif line.strip() and not line.lstrip().startswith((b"#", b":")):
            break
    return found


def merged(from_script, from_command):
    """Return the options; those of the command win, resources one by one."""
    given = dict(from_script) | dict(from_command)
    for several in ("-l", "-W"):
        both = [*from_script, *from_command]
        given[several] = [value for option, value in both if option == several]
    return given


def resources(requests):
    """Return ``Resource_List`` and what the host has to know of it."""
    flat = {}
    for request in requests:
        # A comma separates requests, not chunks of a select.
        for part in request.split(","):
            name, _, value = part.partition("=")
            if name not in RESOURCES:
                raise Refused(187, f"qsub: Unknown resource Resource_List.{name}")
            flat[name] = value
    beside = next((name for name in ("ncpus", "mem") if name in flat and "select" in flat), None)
    if beside is not None:
        words = '"-lresource=" cannot be used with "select" or "place", resource is: '
        raise Refused(5, f"qsub: {words}{beside}")
    select = flat.get("select", f"1:ncpus={flat.get('ncpus', '1')}")
    ncpus, mem_kb = 0, 0
    for chunk in select.split("+"):
        count, *pairs = chunk.split(":")
        told = dict(pair.partition("=")[::2] for pair in pairs)
        if not count.isdigit() or not told.get("ncpus", "1").isdigit():
            raise Refused(166, "qsub: Illegal attribute or resource value select.ncpus")
        if set(told) - {"ncpus", "mem", "mpiprocs", "ompthreads"}:
            raise Refused(187, f"qsub: Unknown resource: {sorted(set(told) - {'ncpus', 'mem'})[0]}")
        ncpus += int(count) * int(told.get("ncpus", "1"))
        mem_kb += int(count) * kilobytes(told.get("mem", "0"))
    mem_kb = mem_kb or kilobytes(flat.get("mem", "0"))
    # The words are those of pbs_resources(7), "place"; the refusal is recorded (bad-place).
    place = flat.get("place", "free" if "select" in flat else "pack")
    if not set(place.split(":")) <= {
        "free",
        "pack",
        "scatter",
        "vscatter",
        "excl",
        "exclhost",
        "shared",
    }:
        raise Refused(166, "qsub: Illegal attribute or resource value Resource_List.place")
    walltime = flat.get("walltime")
    listed = [
        *([["cput", clock(seconds_of(flat["cput"]))]] if "cput" in flat else []),
        *([["mem", f"{mem_kb}kb"]] if mem_kb else []),
        ["ncpus", str(ncpus)],
        ["nodect", "1"],
        ["place", place],
        ["select", select],
        *([["walltime", clock(seconds_of(walltime))]] if walltime else []),
    ]
    limit = seconds_of(walltime) if walltime else None
    return {"list": listed, "ncpus": ncpus, "mem_kb": mem_kb or None, "walltime": limit}


def kilobytes(text):
    match = re.fullmatch(r"([0-9]+)(kb|mb|gb|b)?", text)
    if match is None:
        raise Refused(166, "qsub: Illegal attribute or resource value select.mem")
    factor = {"kb": 1, "mb": 1024, "gb": 1048576}.get(match[2])
    return int(match[1]) * factor if factor else -(-int(match[1]) // 1024)


def seconds_of(text):
    parts = text.split(":")
    if len(parts) > 3 or not all(part.isdigit() for part in parts):
        raise Refused(166, "qsub: Illegal attribute or resource value Resource_List.walltime")
    return sum(int(part) * unit for part, unit in zip(reversed(parts), (1, 60, 3600), strict=False))


# ---- the execution host


def mom(server, job_id):
    """Run one job to its end."""
    with server.locked():
        job = server.load(job_id)
    spool = [server.jobs_folder / f"{job_id}.{stream}" for stream in ("OU", "ER")]
    temporary = server.jobs_folder / f"tmp.{job_id}"
    temporary.mkdir(exist_ok=True)
    account = pwd.getpwuid(os.geteuid())
    environment = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBID": f"{job_id}.{HOST}",
        "PBS_JOBNAME": job["name"],
        "PBS_QUEUE": job["queue"],
        "NCPUS": str(job["ncpus"]),
        "OMP_NUM_THREADS": str(job["ncpus"]),
        "TMPDIR": str(temporary),
        **dict(job["variables"]),
    }
    if "index" in job:
        environment |= {
            "PBS_ARRAY_INDEX": str(job["index"]),
            "PBS_ARRAY_ID": f"{job['number']}[].{HOST}",
        }
    joined = job["join"]
    with spool[0].open("wb") as out, spool[1].open("wb") as err:
        process = subprocess.Popen(
            command_of(server.jobs_folder / f"{job['number']}.SC"),
            stdin=subprocess.DEVNULL,
            stdout=err if joined == "eo" else out,
            stderr=out if joined == "oe" else err,
            env=environment,
            cwd=account.pw_dir,
            start_new_session=True,
            preexec_fn=lambda: limit_cpu_time(job),
        )
    replace(server.jobs_folder / f"{job_id}.session", str(process.pid))
    how = watch(server, job, process)
    signal_session(process.pid, signal.SIGKILL)
    status = process.returncode
    status = 256 - status if status < 0 else status
    if how in ("walltime", "mem"):
        status = {"walltime": -29, "mem": -27}[how]
    shutil.rmtree(temporary, ignore_errors=True)
    with server.locked():
        ended = server.load(job_id)
        if ended.pop("rerun", False) and not ended.get("deleted_by"):
            server.put_back(ended)
            return
    files = [] if joined == "eo" else [(spool[0], job["output"])]
    files += [] if joined == "oe" else [(spool[1], job["error"])]
    results = [deliver(source, path) for source, path in files]
    delivered = all(results)
    with server.locked():
        exiting = server.load(job_id)
        server.save(exiting | {"state": "E", "substate": 51})
    time.sleep(float(server.config.get("exit_seconds", 1.5)))
    with server.locked():
        used = job["used"]
        job = server.load(job_id)
        job |= {"Stageout_status": int(delivered), "used": used}
        words = f"exceeded resource {how}" if how else "finished" if status == 0 else "failed"
        if job.get("deleted_by") and how is None:
            words = f"terminated by {job['deleted_by']}"
        server.finish(job, status, how=words)


def limit_cpu_time(job):
    """Let the kernel end a process by KILL at the job's limit, as PBS does."""
    text = dict(map(tuple, job["asked"])).get("cput")
    if text is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds_of(text), seconds_of(text)))


def command_of(script):
    """Return how a script is run: one without an interpreter line by a shell."""
    with script.open("rb") as file:
        return [str(script)] if file.read(2) == b"#!" else ["/bin/sh", str(script)]


def watch(server, job, process):
    """Wait for the end; return the limit that was exceeded, or None."""
    job_id, asked = job["id"], server.jobs_folder / f"{job['id']}.kill"
    exceeded = None
    kill_at = None
    while process.poll() is None:
        now = time.time()
        resident, cpu = session_usage(process.pid)
        job["used"]["mem"] = max(job["used"]["mem"], resident)
        job["used"]["cput"] = max(job["used"]["cput"], cpu)
        if exceeded is None and job["walltime"] and now > job["stime"] + job["walltime"] + 1:
            exceeded = "walltime"
        if exceeded is None and job["mem_kb"] and resident > job["mem_kb"]:
            exceeded = "mem"
        if kill_at is None and (exceeded or asked.exists()):
            signal_session(process.pid, signal.SIGTERM)
            kill_at = now + float(server.config.get("kill_delay_seconds", 5))
        elif kill_at is not None and now > kill_at:
            signal_session(process.pid, signal.SIGKILL)
        replace(server.jobs_folder / f"{job_id}.used", json.dumps(job["used"]))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return exceeded


def processes_of(session):
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    yield int(entry.name)


def session_usage(session):
    """Return resident memory in kB and seconds of CPU time, of the processes that live."""
    memory, ticks = 0, 0
    for pid in processes_of(session):
        with contextlib.suppress(OSError, IndexError, ValueError):
            memory += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return memory, ticks / os.sysconf("SC_CLK_TCK")


def signal_session(session, number):
    for pid in processes_of(session):
        with contextlib.suppress(OSError):
            os.kill(pid, number)


def deliver(source, path):
    """Copy one output to where it was asked for; return whether that worked."""
    if path == "/dev/null":
        return True
    try:
        shutil.copyfile(source, path)
    except OSError:
        return False
    return True


# ---- qstat and its like


def job_attributes(server, job):
    """Return what ``qstat -f`` tells, in its order."""
    over = job["state"] in ("F", "X")
    array, is_task = job.get("array"), "index" in job
    running = job["state"] in ("R", "S", "E")
    used = job["used"]
    if running:
        with contextlib.suppress(OSError, ValueError):
            used = json.loads((server.jobs_folder / f"{job['id']}.used").read_text())
    until = job.get("history_timestamp") or int(time.time())
    began = job["stime"] is not None
    runs = began and array is None
    vnode = f"({HOST}:ncpus={job['ncpus']})"
    pairs = [
        ("Job_Name", job["name"]),
        ("Job_Owner", f"{job['owner']}@{HOST}"),
        (
            "resources_used",
            [
                ("cpupercent", "0"),
                ("cput", clock(used["cput"])),
                ("mem", f"{used['mem']}kb"),
                ("ncpus", str(job["ncpus"])),
                ("vmem", f"{used['mem']}kb"),
                ("walltime", clock(until - (job["stime"] or until))),
            ]
            if runs
            else None,
        ),
        ("job_state", job["state"]),
        ("queue", job["queue"]),
        ("server", HOST),
        ("Account_Name", job["account"] or None),
        ("Checkpoint", None if is_task else "u"),
        ("ctime", moment(job["ctime"])),
        ("depend", depend_words(server, job)),
        ("Error_Path", f"{HOST}:{job['error']}"),
        ("exec_host", f"{HOST}/0*{job['ncpus']}" if runs else None),
        ("exec_vnode", vnode if runs else None),
        ("Hold_Types", None if is_task else job["hold"]),
        ("Join_Path", job["join"]),
        ("Keep_Files", "n"),
        ("Mail_Points", "a"),
        ("mtime", moment(job["mtime"])),
        ("Output_Path", f"{HOST}:{job['output']}"),
        ("Priority", job["priority"]),
        ("qtime", moment(job["ctime"])),
        ("Rerunable", "True"),
        ("Resource_List", [tuple(pair) for pair in job["asked"]]),
        ("stime", moment(job["stime"]) if began else None),
        ("obittime", moment(until) if over and began else None),
        ("session_id", session_of(server, job) if runs else None),
        ("jobdir", pwd.getpwnam(job["owner"]).pw_dir if runs else None),
        ("substate", str(job["substate"])),
        ("Variable_List", [tuple(pair) for pair in job["variables"]]),
        ("comment", job.get("comment")),
        ("etime", moment(job["ctime"]) if job["hold"] == "n" else None),
        ("run_count", str(job["run_count"]) if job["run_count"] else None),
        ("Stageout_status", str(job["Stageout_status"]) if "Stageout_status" in job else None),
        ("Exit_status", str(job["Exit_status"]) if "Exit_status" in job else None),
        ("Submit_arguments", job.get("arguments")),
        *(array_attributes(server, job) if array else []),
        ("array_id", f"{job['number']}[].{HOST}" if is_task else None),
        ("array_index", str(job["index"]) if is_task else None),
        ("history_timestamp", str(job["history_timestamp"]) if over else None),
        ("project", "_pbs_project_default"),
        ("Submit_Host", HOST),
    ]
    return [(name, value) for name, value in pairs if value is not None]


def session_of(server, job):
    with contextlib.suppress(OSError):
        return (server.jobs_folder / f"{job['id']}.session").read_text()
    return None


def depend_words(server, job):
    """Return ``depend``: what the job waits for, and which jobs wait for it."""
    groups = {}
    for condition, wanted in job.get("depends", []):
        groups.setdefault(condition, []).append(wanted)
    for other, condition in server.waiting_for(job):
        groups.setdefault(condition.replace("after", "before"), []).append(other["id"])
    words = (
        ":".join([condition, *(f"{wanted}.{HOST}@{HOST}" for wanted in ids)])
        for condition, ids in groups.items()
    )
    return ",".join(words) or None


def array_attributes(server, job):
    first, last, step = job["array"]
    tasks = server.tasks_of(job)
    names = {"Q": "Queued", "R": "Running", "E": "Exiting", "X": "Expired"}
    counts = collections.Counter(names.get(task["state"]) for task in tasks)
    waiting = [task["index"] for task in tasks if task["state"] == "Q"]
    if len(waiting) == len(tasks):
        remaining = f"{first}-{last}" + (f":{step}" if step > 1 else "")
    else:
        remaining = ",".join(map(str, waiting)) or "-"
    return [
        ("array", "True"),
        ("array_state_count", " ".join(f"{name}:{counts[name]}" for name in names.values())),
        ("array_indices_submitted", f"{first}-{last}" + (f":{step}" if step > 1 else "")),
        ("array_indices_remaining", remaining),
        ("max_run_subjobs", str(job["max_running"]) if job["max_running"] else None),
    ]


def qstat(server, argv):
    """Answer ``qstat -f`` of all jobs or some, delimited or as text; ``-Q`` of the queues."""
    if argv == ["--version"]:
        print("pbs_version = 23.06.06")
        return
    knows_dsv = server.config.get("dsv", True)
    groups_ids = knows_dsv and server.config.get("groups_ids", True)
    known = "BfQtwx" + ("F:D:" if knows_dsv else "") + ("E" if groups_ids else "")
    try:
        options, ids = getopt.getopt(argv, known)
    except getopt.GetoptError as error:
        raise Refused(2, f"qstat: invalid option -- '{error.opt}'\nusage: \nqstat [-f]") from None
    given = dict(options)
    delimiter = given.get("-D", "|") if given.get("-F") == "dsv" else None
    if delimiter is not None and "-f" not in given:
        raise Refused(2, "qstat: conflicting options.")
    server.check_up(255, f"qstat: cannot connect to server {HOST} (errno=15010)")
    if "-x" in given and not server.config.get("history", True):
        raise Refused(36, "qstat: PBS is not configured to maintain job history")
    if "-Q" in given:
        print_all(server, delimiter, "Queue: ", queue_attributes(server))
        return
    with server.locked():
        finished = "-x" in given
        found, complaints = selected(server, ids, finished=finished, quiet="-E" in given)
        if "-t" in given:
            found = [one_of for job in found for one_of in with_tasks(server, job)]
        members = [(f"{job['id']}.{HOST}", job_attributes(server, job)) for job in found]
    print_all(server, delimiter, "Job Id: ", members)
    if complaints:
        raise Refused(complaints[-1][0], "\n".join(words for _, words in complaints))


def print_all(server, delimiter, heading, members):
    for name, told in members:
        if delimiter is None:
            text = output.render_text(f"{heading}{name}", told)
        else:
            is_release = server.config.get("release", False)
            text = output.render_dsv(f"{heading}{name}", told, delimiter, release=is_release)
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


def selected(server, ids, *, finished, quiet):
    """Return the jobs that are asked for, and what is to be complained about the others."""
    if not ids or "" in ids:
        jobs = server.all() if finished else server.current()
        return [job for job in jobs if "index" not in job], []
    found, complaints = [], []
    for text in ids:
        try:
            job = one(server, text, "qstat")
        except Refused as refusal:
            complaints.append((refusal.status, refusal.words))
            continue
        if job["state"] == "F" and not finished:
            words = "Job has finished, use -x or -H to obtain historical job information"
            complaints.append((35, f"qstat: {job['id']}.{HOST} {words}"))
        else:
            found.append(job)
    return found, [] if quiet and finished else complaints


def with_tasks(server, job):
    return [job, *(server.tasks_of(job) if "array" in job else [])]


def one(server, text, command):
    match = re.fullmatch(rf"([0-9]+)(\[[0-9]*\])?(?:\.{HOST})?", text)
    if match is None:
        raise Refused(1, f"{command}: illegally formed job identifier: {text}")
    job_id = match[1] + (match[2] or "")
    if not server.exists(job_id):
        raise Refused(153, f"{command}: Unknown Job Id {job_id}.{HOST}")
    return server.load(job_id)


def queue_attributes(server):
    return [
        (
            name,
            [
                ("queue_type", "Execution"),
                ("total_jobs", str(len(server.ids()))),
                ("enabled", enabled),
                ("started", started),
            ],
        )
        for name, (enabled, started) in server.queues.items()
    ]


def qselect(server, argv):
    """Print the ids of the jobs in the queue."""
    server.check_up(255, f"qselect: cannot connect to server {HOST} (errno=15010)")
    with server.locked():
        for job in selected(server, [], finished="-x" in argv, quiet=True)[0]:
            print(f"{job['id']}.{HOST}")


def pbsnodes(server, argv):
    """Print the one host."""
    if (server.state / "down").exists():
        raise Refused(
            1, f"Connection refused\npbsnodes: cannot connect to server {HOST}, error=15010"
        )
    total = int(server.config.get("ncpus", 64))
    with server.locked():
        jobs = server.current()
    used = sum(job["ncpus"] for job in jobs if job["state"] == "R")
    assigned = [("ncpus", str(used))] if used else []
    told = [
        ("Mom", HOST),
        ("ntype", "PBS"),
        ("state", "free" if used < total else "job-busy"),
        ("pcpus", "2"),
        (
            "resources_available",
            [("arch", "linux"), ("host", HOST), ("mem", "24684096kb"), ("ncpus", str(total))],
        ),
        ("resources_assigned", assigned),
        ("resv_enable", "True"),
        ("sharing", "default_shared"),
    ]
    print(output.render_text(HOST, told), end="")


# ---- changes


def qdel(server, argv):
    """Delete jobs."""
    change(server, "qdel", argv, delete)


def qhold(server, argv):
    """Hold jobs."""
    change(server, "qhold", argv, hold)


def qrls(server, argv):
    """Release jobs."""
    change(server, "qrls", argv, release)


def qrerun(server, argv):
    """Put running jobs back into the queue."""
    change(server, "qrerun", argv, rerun)


def qsig(server, argv):
    """Send a signal to running jobs; TERM without ``-s``."""
    options, ids = getopt.getopt(argv, "s:")
    name = dict(options).get("-s", "TERM")
    change(server, "qsig", ids, lambda server, job: send(server, job, name))


def qalter(server, argv):
    """Change jobs that have not started: all that is asked for, or nothing (qalter(1B))."""
    options, ids = getopt.getopt(argv, "a:A:c:e:h:j:k:l:m:M:N:o:p:P:r:R:S:u:W:")
    given = merged([], options)
    if FORBIDDEN_IN_NAMES.search(given.get("-N", "")):
        raise Refused(2, "qalter: illegal -N value")
    if not -1024 <= int(given.get("-p", 0)) <= 1023:
        raise Refused(2, "qalter: illegal -p value")

    def alter(server, job):
        refuse_unless_waiting(job, "qalter")
        for one_of_it in [job, *(server.tasks_of(job) if "array" in job else [])]:
            server.save(one_of_it | altered(one_of_it, given))

    change(server, "qalter", ids, alter)


def altered(job, given):
    """Return what becomes another; the paths of outputs stay (as recorded of Torque)."""
    asked = dict(pair for pair in job["asked"] if pair[0] not in ("mem", "ncpus", "nodect"))
    for request in given["-l"]:
        name, _, value = request.partition("=")
        if name in ("ncpus", "mem"):
            # qalter(1B): every job here has an explicit select.
            words = 'Resource must only appear in "select" specification when select is used: '
            raise Refused(5, f"qalter: {words}{name} {job['id']}.{HOST}")
        asked[name] = value
    try:
        found = resources([f"{name}={value}" for name, value in asked.items()])
    except Refused as refusal:
        # Recording qalter.bad.
        words = refusal.words.replace("qsub:", "qalter:", 1)
        raise Refused(refusal.status, f"{words} {job['id']}.{HOST}") from None
    return {
        "name": given.get("-N", job["name"]),
        "account": given.get("-A", job["account"]),
        "priority": given.get("-p", job["priority"]),
        "asked": found["list"],
        **{name: found[name] for name in ("ncpus", "mem_kb", "walltime")},
    }


def qmove(server, argv):
    """Move jobs that have not started to another queue (qmove(1B))."""
    queue, *ids = argv

    def move(server, job):
        if queue not in server.queues:
            raise Refused(170, f"qmove: Unknown queue {job['id']}.{HOST}")
        if server.queues[queue][0] != "True":
            raise Refused(173, f"qmove: Queue is not enabled {job['id']}.{HOST}")
        refuse_unless_waiting(job, "qmove")
        for one_of_it in [job, *(server.tasks_of(job) if "array" in job else [])]:
            server.save(one_of_it | {"queue": queue})

    change(server, "qmove", ids, move)


def refuse_unless_waiting(job, command):
    if job["state"] not in ("Q", "H"):
        words = f"Request invalid for state of job {job['id']}.{HOST}"
        raise Refused(168, f"{command}: {words}")


def change(server, command, ids, act):
    if not ids:
        raise Refused(2, f"usage:\n\t{command} job_identifier...\n\t{command} --version")
    if (server.state / "down").exists():
        raise Refused(162, f"Connection refused\nCouldn't connect to cluster: {HOST}")
    refusals = []
    with server.locked():
        for text in ids:
            try:
                for job in in_range(server, text) or [one(server, text, command)]:
                    if job["state"] in ("F", "X"):
                        raise Refused(35, f"{command}: Job has finished {job['id']}.{HOST}")
                    act(server, job)
            except Refused as refusal:
                refusals.append(refusal)
    if refusals:
        raise Refused(refusals[-1].status, "\n".join(refusal.words for refusal in refusals))


def in_range(server, text):
    """Return the tasks of ``5283[3-4]`` that are not over (recording qdel.array-range)."""
    match = re.fullmatch(rf"([0-9]+)\[([0-9]+)-([0-9]+)\](?:\.{HOST})?", text)
    if match is None or not server.exists(f"{match[1]}[]"):
        return []
    wanted = range(int(match[2]), int(match[3]) + 1)
    tasks = server.tasks_of(server.load(f"{match[1]}[]"))
    return [t for t in tasks if t["index"] in wanted and t["state"] not in ("F", "X", "E")]


def refuse_while_exiting(job, command):
    if job["state"] == "E":
        words = f"Request invalid for state of job {job['id']}.{HOST}"
        raise Refused(168, f"{command}: {words}")


def delete(server, job):
    refuse_while_exiting(job, "qdel")
    who = f"{pwd.getpwuid(os.geteuid()).pw_name}@{HOST}"
    server.account("D", job, f"requestor={who}")
    server.note(job, f"Job to be deleted at request of {who}")
    if "array" in job and job["stime"] is not None:
        server.save(job | {"deleted_by": who})
        for task in server.tasks_of(job):
            if task["state"] in ("Q", "R", "S"):
                delete(server, task)
    elif "array" in job:
        for task in server.tasks_of(job):
            server.save(task | {"state": "X", "substate": 91, "history_timestamp": mtime()})
        server.save(job | {"state": "F", "substate": 91, "history_timestamp": mtime()})
        server.leave(server.load(job["id"]))
    elif job["state"] in ("R", "S"):
        job["deleted_by"] = who
        server.save(job)
        (server.jobs_folder / f"{job['id']}.kill").touch()
    else:
        server.finish(job, None, how="terminated")


def refuse_tasks(job, command):
    """Refuse a task, as qhold and qrls do (15004, PBSE_IVALREQ; req_holdjob.c of OpenPBS)."""
    if "index" in job:
        raise Refused(156, f"{command}: Invalid request {job['id']}.{HOST}")


def hold(server, job):
    refuse_while_exiting(job, "qhold")
    refuse_tasks(job, "qhold")
    job["hold"] = "u" if job["hold"] == "n" else "".join(sorted({*job["hold"], "u"}, reverse=True))
    if job["state"] == "Q" or (job["state"] == "B" and "array" in job):
        job |= {"state": "H", "substate": 20}
    server.save(job)


def release(server, job):
    refuse_while_exiting(job, "qrls")
    refuse_tasks(job, "qrls")
    lift_hold(job, "u")
    server.save(job)
    server.schedule()


def require_operator(server, job, command):
    # Recordings qsig.suspend-as-user, qrerun.as-user.
    if not server.config.get("operator", True):
        raise Refused(159, f"{command}: Unauthorized Request  {job['id']}.{HOST}")


def require_started(server, job, command):
    # Recording qsig.held.
    if job["state"] not in ("R", "S") or session_of(server, job) is None:
        words = f"Request invalid for state of job {job['id']}.{HOST}"
        raise Refused(168, f"{command}: {words}")


def rerun(server, job):
    require_operator(server, job, "qrerun")
    require_started(server, job, "qrerun")
    server.save(job | {"rerun": True})
    (server.jobs_folder / f"{job['id']}.kill").touch()


def send(server, job, name):
    if name in ("suspend", "resume"):
        require_operator(server, job, "qsig")
    require_started(server, job, "qsig")
    session = int(session_of(server, job))
    if name == "suspend":
        signal_session(session, signal.SIGSTOP)
        # Recording qstat-f.suspended: no comment any more.
        server.save(job | {"state": "S", "substate": 43, "comment": None})
    elif name == "resume":
        signal_session(session, signal.SIGCONT)
        server.save(job | {"state": "R", "substate": 42})
    else:
        signal_session(session, signal.Signals[f"SIG{name.removeprefix('SIG')}"])


def tracejob(server, argv):
    """Print what the server's log tells of a job; the accounting is for administrators."""
    options, words = getopt.getopt(argv, "n:")
    days, word = dict(options).get("-n", "1"), words[-1]
    wanted = word.partition(".")[0]
    path = server.state / "server_log"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.split(";", 2) for line in lines if line.split(";", 2)[1] == wanted]
    if not found:
        ago = f"past {days} day" + ("s" if days != "1" else "")
        raise Refused(1, f"\ntracejob: Couldn't find Job Id {wanted}.{HOST} in logs of {ago}\n")
    print(f"\nJob: {wanted}.{HOST}\n")
    for moment_of, _, text in found:
        print(f"{moment_of}  S    {text}")


COMMANDS = {
    "qsub": qsub,
    "qstat": qstat,
    "qselect": qselect,
    "qdel": qdel,
    "qhold": qhold,
    "qrls": qrls,
    "qrerun": qrerun,
    "qsig": qsig,
    "qalter": qalter,
    "qmove": qmove,
    "tracejob": tracejob,
    "pbsnodes": pbsnodes,
}


def main():
    """Run one command, or one job."""
    state, command, *argv = sys.argv[1:]
    server = Server(Path(state))
    if command == "_mom":
        mom(server, argv[0])
        return 0
    try:
        COMMANDS[command](server, argv)
    except Refused as refusal:
        sys.stdout.flush()
        sys.stderr.write(refusal.words + "\n")
        return refusal.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
