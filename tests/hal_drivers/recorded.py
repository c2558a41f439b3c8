# SPDX-License-Identifier: Apache-2.0
"""Answers of vendors in the shapes of their own models, for drivers that no test may run against the vendor."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import Any

ARN = "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1"
TASK = "arn:aws:braket:us-east-1:123456789012:quantum-task/5f8a9d0e-1111-4222-8333-444455556666"
BEGAN = dt.datetime(2026, 11, 20, 10, 0, 0, tzinfo=dt.UTC)
ENDED = BEGAN + dt.timedelta(seconds=42)


def device(status: str = "ONLINE", **service: object) -> dict[str, Any]:
    """GetDevice."""
    operations = [
        "x",
        "y",
        "z",
        "h",
        "s",
        "si",
        "t",
        "ti",
        "v",
        "vi",
        "rx",
        "ry",
        "rz",
        "cnot",
        "swap",
        "xx",
        "yy",
        "zz",
    ]
    capabilities = {
        "braketSchemaHeader": {"name": "braket.device_schema.ionq.ionq_device_capabilities", "version": "1"},
        "service": {"shotsRange": [1, 5000], "updatedAt": "2026-11-01T00:00:00+00:00", **service},
        "action": {
            "braket.ir.openqasm.program": {
                "actionType": "braket.ir.openqasm.program",
                "version": ["1"],
                "supportedOperations": operations,
            }
        },
        "deviceParameters": {},
        "paradigm": {
            "qubitCount": 36,
            "nativeGateSet": ["GPI", "GPI2", "ZZ"],
            "connectivity": {"fullyConnected": True},
        },
    }
    return {
        "deviceArn": ARN,
        "deviceName": "Forte 1",
        "providerName": "IonQ",
        "deviceType": "QPU",
        "deviceStatus": status,
        "deviceCapabilities": json.dumps(capabilities),
        "deviceQueueInfo": [
            {"queue": "QUANTUM_TASKS_QUEUE", "queueSize": "7", "queuePriority": "Normal"},
            {"queue": "QUANTUM_TASKS_QUEUE", "queueSize": ">4000", "queuePriority": "Priority"},
        ],
    }


def task(status: str, shots: int = 100, **more: object) -> dict[str, Any]:
    """GetQuantumTask."""
    told = {
        "quantumTaskArn": TASK,
        "status": status,
        "deviceArn": ARN,
        "deviceParameters": "{}",
        "shots": shots,
        "outputS3Bucket": "amazon-braket-results",
        "outputS3Directory": "qcos/5f8a9d0e-1111-4222-8333-444455556666",
        "createdAt": BEGAN,
    }
    return told | ({"endedAt": ENDED} if status in ("COMPLETED", "FAILED", "CANCELLED") else {}) | more


def results(source: str, measured_qubits: list[int], **outcome: object) -> dict[str, Any]:
    """GetObject of results.json."""
    document = {
        "braketSchemaHeader": {"name": "braket.task_result.gate_model_task_result", "version": "1"},
        "measuredQubits": measured_qubits,
        "taskMetadata": {"id": TASK, "shots": 100, "deviceId": ARN, "createdAt": "2026-11-20T10:00:00Z"},
        "additionalMetadata": {"action": {"source": source, "inputs": {}}},
        **outcome,
    }
    body = json.dumps(document).encode()
    from botocore.response import StreamingBody

    return {"Body": StreamingBody(io.BytesIO(body), len(body)), "ContentLength": len(body)}
