"""What Torque and OpenPBS share: ids, units, text of ``qstat -f``, accounting lines, carriers."""
