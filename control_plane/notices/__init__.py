# SPDX-License-Identifier: Apache-2.0
"""Who is told because policy obliges to it: an outbox written with the job, and a courier that delivers from it."""
