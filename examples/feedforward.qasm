// Two groups that share no qubit. The second reads what the first has measured: it runs after it, shot by shot.
OPENQASM 3;
include "stdgates.inc";
qubit[4] q;
bit[2] sent;
bit[2] got;

bell_pair q[0], q[1];
sent[0] = measure q[0];
sent[1] = measure q[1];

if (sent[0] == true) { x q[2]; }
if (sent == 3) { x q[3]; }
cnot q[2], q[3];
cnot q[2], q[3];
got[0] = measure q[2];
got[1] = measure q[3];
