"""Running a command on the cluster, safely."""
