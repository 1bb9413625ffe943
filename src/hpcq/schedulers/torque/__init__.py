"""Torque 6 and its older releases: ``qsub``, ``qstat -x``, ``qdel``, accounting logs."""
