"""LOCAL, the embedded scheduler: a real batch system for one machine.

::

    backend             the contract; checks: what a job may ask for
    └─ engine           starts jobs and records their ends; recovery: after a start of the service
       ├─ job_control   what people ask for: hold, alter, suspend, cancel
       ├─ active_jobs   the jobs that are not over, in memory: job, arrays, dependencies, queue
       ├─ spool         all jobs, on disk: spool_file, spool_schema, spool_row
       └─ runs          the jobs that run: run_folders, report, unreported_ends
          └─ launcher_client

    launcher            a process that forks a shepherd for each job
    └─ shepherd         runs one job: script_process, usage_meter, cgroup

The service and the shepherds outlive each other. They share the spool, the run directories (files)
and the knowledge of processes and control groups (processes, cgroup_setup).
"""
