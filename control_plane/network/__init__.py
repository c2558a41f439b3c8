# SPDX-License-Identifier: Apache-2.0
"""The plane's side of the network of services: enrolment, what is known of peers, plans, reservations, the keeper."""
