"""The domains by name. Adding one is a class of its own file and a line here."""

from __future__ import annotations

from promptcot_assets.domains.code import Code
from promptcot_assets.domains.domain import Attempt, Domain, ProceduralDomain, Seed
from promptcot_assets.domains.maths import Maths
from promptcot_assets.domains.mini_code import MiniCode
from promptcot_assets.domains.mini_maths import MiniMaths

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (Maths(), Code(), MiniMaths(), MiniCode())}

__all__ = ["DOMAINS", "Attempt", "Domain", "ProceduralDomain", "Seed", "domain_named", "procedural_domain"]


def domain_named(name: str) -> Domain:
    if name not in DOMAINS:
        raise ValueError(f"no domain {name!r}; known: {', '.join(DOMAINS)}")
    return DOMAINS[name]


def procedural_domain(name: str) -> ProceduralDomain:
    domain = domain_named(name)
    if not isinstance(domain, ProceduralDomain):
        raise ValueError(f"domain {name!r} writes no problems by program; give it files under corpus.files instead")
    return domain
