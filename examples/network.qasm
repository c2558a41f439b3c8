OPENQASM 3; qubit[2] q; bit[1] c; bell_pair q[0], q[1]; cnot q[0], q[1]; cz q[0], q[1]; teleport q[0], q[1]; syndrome_extraction q[0]; distillation q[1]; measure q[0] -> c[0];
