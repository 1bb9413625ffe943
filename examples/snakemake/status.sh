#!/bin/sh
# Tell Snakemake how a job is: running, success or failed.
set -u

status=0
job=$(hpcq show --json "$1") || status=$?
case $status in
0) ;;
1) echo failed && exit ;;  # There is no such job.
3) echo running && exit ;; # The service is away; the job goes on without it.
*) exit $status ;;
esac
case $job in
*'"state": "DONE"'*) echo success ;;
*'"state": "FAILED"'*) echo failed ;;
*) echo running ;;
esac
