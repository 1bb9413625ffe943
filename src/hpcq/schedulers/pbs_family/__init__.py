"""Parts that Torque and OpenPBS share: ids, units, text of ``qstat -f``, accounting, wrapper."""
