// Twelve qubits in three groups that share none: a plan may put each group on a node of its own.
OPENQASM 3;
include "stdgates.inc";
qubit[12] q;
bit[12] c;

// A GHZ state of four.
bell_pair q[0], q[1];
cnot q[1], q[2];
cnot q[2], q[3];

// A pair whose half is teleported along, and distilled on the way.
h q[4];
t q[4];
teleport q[4], q[5];
bell_pair q[6], q[7];
distillation q[6];
cz q[5], q[6];

// A ring with rotations.
ry(0.4) q[8];
rx(1.1) q[9];
cnot q[8], q[9];
cz q[9], q[10];
h q[10];
cnot q[10], q[11];
cz q[11], q[8];
syndrome_extraction q[11];

c = measure q;
