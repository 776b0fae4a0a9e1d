import importlib.util
import json
from pathlib import Path

import pytest

from promptcot_assets.settings import SettingsError, home, load_settings, loading, profile_name
from promptcot_assets.settings.engines import Engine, Sandbox
from promptcot_assets.settings.loading import PROFILES
from promptcot_assets.settings.profile import Settings, Student

SMALL = "tests/profiles/small.yaml"
BASE = {"scratch": {"layers": 1}}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROMPTCOT_HOME", "PROMPTCOT_PROFILE", "PROMPTCOT_SEED"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str, name: str = "mine.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


# (text of a profile, what its error must say)
BAD_PROFILES = {
    "a distillation without a teacher": (
        "extends: demo\nself_play: {optimiser: distill}",
        "learns from a teacher; name one as self_play.teacher",
    ),
    "a teacher that is nobody": (
        "extends: demo\nself_play: {optimiser: distill, teacher: nobody}",
        "nobody is neither one of `teachers`",
    ),
    "a student that would learn from itself": (
        "extends: demo\nself_play: {optimiser: distill, teacher: tiny}",
        "set students.tiny.plays: false",
    ),
    "a teacher that learns by continuing a student": (
        "extends: demo\nself_play: {rounds: 2, optimiser: distill, teacher: tiny_round_02}",
        "tiny_round_02 learns by itself, as it continues another student",
    ),
    "a teacher whose weights are elsewhere": (
        "extends: demo\nteachers: {far: {model: {served: m}, engine: {name: chat_api, chat_api: "
        "{urls: ['http://127.0.0.1:1/v1']}}}}\nself_play: {optimiser: distill, teacher: far}",
        "far is asked over the network; distillation needs a teacher's weights",
    ),
    "groups replaced where there are none": (
        "extends: demo\nself_play: {resample_groups: 2}",
        "resample_groups replaces groups of grpo",
    ),
    "an unknown engine setting at evaluation": (
        "extends: demo\nevaluation: {engine: {vllm: {yarn: 2}}}",
        ["evaluation.engine.vllm.yarn"],
    ),
    "weights of a tempered q": (
        "extends: demo\nem: {selection: posterior, sampling: {temperature: 0.7}}",
        ["em.selection: posterior", "em.sampling.temperature", "top_p to 1"],
    ),
    "weights of a truncated q": (
        "extends: demo\nem: {selection: weighted, sampling: {top_p: 0.9}}",
        ["em.selection: weighted", "top_p to 1"],
    ),
    "weights of a reward per token": (
        "extends: demo\nem: {selection: weighted, reward: {per_token: true}}",
        ["em.reward.per_token: false"],
    ),
    "half an epoch of draws": (
        "extends: demo\nem: {selection: posterior, e_step: {arguments: {num_train_epochs: 1.5}}}",
        ["em.e_step.arguments.num_train_epochs"],
    ),
    "draws of a training that ends by steps": (
        "extends: demo\nem: {selection: weighted, m_step_training: {arguments: {max_steps: 9}}}",
        ["em.m_step_training.arguments.num_train_epochs", "max_steps"],
    ),
    "frozen rationales and a sampled M-step": (
        "extends: demo\nem: {selection: frozen, m_step: sampled}",
        ["em.m_step: selected"],
    ),
    "a rationale that weighs more than the problem": (
        "extends: demo\nem: {reward: {rationale_weight: 1.5}}",
        ["em.reward.rationale_weight", "less than or equal"],
    ),
    "unknown setting": ("extends: demo\nem: {candidate: 3}", ["em.candidate", "profile.py", "mine.yaml"]),
    "unknown section": ("extends: demo\nsynthesys: {}", ["synthesys", "profile.py"]),
    "wrong type": ("extends: demo\nem: {candidates: many}", ["em.candidates", "integer"]),
    "out of range": ("extends: demo\nem: {rounds: 0}", ["em.rounds", "greater than or equal to 1"]),
    "a share above 1": ("extends: demo\nself_play: {pool_share: 20}", ["self_play.pool_share", "less than or equal"]),
    "no temperature": ("extends: demo\nevaluation: {sampling: {temperature: -1}}", ["evaluation.sampling.temperature"]),
    "nothing to evaluate": ("extends: demo\nbenchmarks: {limit: 0}", ["benchmarks.limit"]),
    "negative seed": ("extends: demo\nseed: -1", ["seed", "greater than or equal to 0"]),
    "a seed of words": ("extends: demo\nseed: one", ["seed", "integer"]),
    "no weights": (
        "extends: demo\ncorpus: {procedural: {mini_maths: {annotators: {planner: 0}}}}",
        ["corpus.procedural.mini_maths.annotators"],
    ),
    "more votes than voters": ("extends: demo\nlabels: {votes: 2}", ["labels.min_votes 3", "2 labels.votes"]),
    "problems without seeds": (
        "extends: demo\nsynthesis: {concept_sets: {maths: 5}}",
        ["synthesis.concept_sets asks for maths", "mini_code, mini_maths"],
    ),
    "levels of nothing": (
        "extends: demo\nsynthesis: {levels: {maths: {AIME: 1}}}",
        ["synthesis: ", "levels: no concept sets are asked for maths"],
    ),
    "levels without weight": (
        "extends: demo\nsynthesis: {levels: {mini_maths: {easy: 0}}}",
        ["levels.mini_maths: give at least one level a positive weight"],
    ),
    "a price of no step": (
        "extends: demo\nprices: {million_tokens: {problems: 1}}",
        ["prices.million_tokens.problems"],
    ),
    "an arm of no setting": ("extends: demo\nablations: {arms: {odd: {K: 3}}}", ["ablations.arms.odd: em.K"]),
    "an arm that cannot be": (
        "extends: demo\nem: {m_step: greedy}\nablations: {arms: {odd: {selection: frozen}}}",
        ["ablations.arms.odd", "set em.m_step: selected"],
    ),
    "a reward of nothing": (
        "extends: demo\nem: {reward: {rationale: false, problem: false}}",
        ["em.reward", "em.selection: random"],
    ),
    "a teacher of no name": (
        "extends: demo\nlabels: {voter: {teacher: oracle, sampling: {}}}",
        ["labels.voter.teacher: 'oracle'", "there are: none"],
    ),
    "a teacher from scratch": (
        "extends: demo\nteachers: {oracle: {model: {scratch: {}}}}",
        ["teachers.oracle.model", "nothing to teach"],
    ),
    "a teacher on no engine": (
        "extends: demo\nteachers: {oracle: {model: {hub_id: a/b}, engine: {thread: 1}}}",
        ["teachers.oracle.engine.thread", "Extra inputs"],
    ),
    "an annotator twice": (
        "extends: demo\nteachers: {a: {model: {hub_id: a/b}}}\n"
        "annotation: {annotators: [{teacher: a, sampling: {}}, {teacher: a, sampling: {}}]}",
        ["annotation.annotators", "each of them once"],
    ),
    "two origins": ("extends: demo\nbase: {hub_id: a/b, revision: abc}", ["base", "exactly one of hub_id"]),
    "no origin": ("extends: demo\nbase: {scratch: null}", ["base", "exactly one of hub_id"]),
    "no base": ("students: {}\nsynthesis: {concept_sets: {}}", ["base", "Field required"]),
    "empty file": ("", ["mine.yaml is empty or not a mapping"]),
    "comment only": ("# nothing\n", ["mine.yaml is empty or not a mapping"]),
    "a list": ("- demo", ["mine.yaml is empty or not a mapping"]),
    "not YAML": ("em: {rounds: 2", ["mine.yaml is not valid YAML", "line 1"]),
    "unknown parent": ("extends: demmo", ["'demmo'", "known: ablations, demo"]),
    "parent without a name": ("extends: 3", ["mine.yaml", "extends: 3"]),
    "its own parent": ("extends: mine.yaml", ["mine.yaml extends itself"]),
    "a name of its own": ("extends: demo\nprofile: other", ["mine.yaml", "`profile`", "delete"]),
    "a number as a key": ("extends: demo\n7: 1", ["7"]),
    "a variable not set": ("extends: demo\nlanes: ${PROMPTCOT_NO_SUCH}", ["${PROMPTCOT_NO_SUCH}", "export"]),
}


@pytest.mark.parametrize("name", BAD_PROFILES)
def test_a_bad_profile_is_one_error_that_names_the_place_and_the_mend(tmp_path: Path, name: str) -> None:
    text, said = BAD_PROFILES[name]
    with pytest.raises(SettingsError) as error:
        load_settings(written(tmp_path, text))
    assert all(part in str(error.value) for part in said), str(error.value)


def test_null_takes_away_what_the_parent_sets(tmp_path: Path) -> None:
    text = "extends: demo\ncorpus: {procedural: {mini_code: null}}\nsynthesis: {concept_sets: {mini_code: null}}"
    settings = load_settings(written(tmp_path, text))
    assert settings.domains == ["mini_maths"] and list(settings.synthesis.concept_sets) == ["mini_maths"]


def test_the_ablations_differ_from_em_in_what_their_names_say() -> None:
    arms = load_settings("ablations").ablations.arms
    assert {arm["candidates"] for arm in arms.values() if "candidates" in arm} == {1, 2, 4, 16}
    assert {"selection": "random"} in arms.values() and {"selection": "frozen"} in arms.values()
    assert {"cold_start_share": 0} in arms.values()


def test_several_mistakes_are_counted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\(2 problem\(s\) in all\)"):
        load_settings(written(tmp_path, "extends: demo\nem: {rounds: 0, candidates: 0}"))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"extends: \xff\xfe")
    with pytest.raises(SettingsError, match="not valid YAML"):
        load_settings(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("name", ["a\0b", "\0.yaml", "a" * 300, "a" * 300 + ".yaml"])
def test_what_no_file_can_be_called_is_no_profile(name: str) -> None:
    with pytest.raises(SettingsError, match="no file can be called that"):
        load_settings(name)


@pytest.mark.parametrize("name", ["demmo", "absent.yaml", "tests"])
def test_an_unknown_profile_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"no profile '{name}' .*known: ablations, demo, .*or the path of a YAML file"
    ):
        load_settings(name)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "0x1", " "])
def test_a_bad_seed_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PROMPTCOT_SEED", text)
    with pytest.raises(SettingsError, match=r"PROMPTCOT_SEED=.* is not a whole number; unset it or give one"):
        load_settings("demo")


def test_the_seed_comes_from_the_call_then_the_environment_then_the_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile = written(tmp_path, "extends: demo\nseed: 5")
    assert load_settings(profile).seed == 5
    monkeypatch.setenv("PROMPTCOT_SEED", "7")
    assert load_settings(profile).seed == 7
    assert load_settings(profile, seed=0).seed == 0
    monkeypatch.setenv("PROMPTCOT_SEED", "")
    assert load_settings(profile).seed == 5
    with pytest.raises(SettingsError, match=r"seed: .*greater than or equal to 0"):
        load_settings(profile, seed=-1)


def test_a_child_changes_what_it_says_and_keeps_the_rest(tmp_path: Path) -> None:
    parent = load_settings("demo")
    child = load_settings(
        written(tmp_path, "extends: demo\nem: {rounds: 4, cold_start: {arguments: {learning_rate: 1.0}}}\nlanes: 1")
    )
    assert (child.profile, child.em.rounds, child.lanes) == ("mine", 4, 1)
    assert child.em.cold_start.arguments == parent.em.cold_start.arguments | {"learning_rate": 1.0}
    assert child.em.candidates == parent.em.candidates
    again = {"profile": "demo", "lanes": parent.lanes, "em": parent.em}
    assert child.model_copy(update=again) == parent


def test_a_child_replaces_lists_and_takes_values_back_with_null(tmp_path: Path) -> None:
    text = "extends: demo\nbase: {scratch: null, hub_id: a/b, revision: abc}\nself_play: {training: {launcher: [x]}}"
    child = load_settings(written(tmp_path, text))
    assert child.base.hub_id == "a/b" and child.base.scratch is None
    assert child.self_play.training.launcher == ["x"]
    assert load_settings("demo").base.hub_id is None


def test_a_profile_extends_one_beside_it_wherever_it_is_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir()
    written(folder, "extends: demo\nseed: 3\nlanes: 1", "parent.yaml")
    child = written(folder, "extends: parent.yaml\nlanes: 2", "child.yaml")
    monkeypatch.chdir(tmp_path)
    assert (load_settings(child).seed, load_settings(child).lanes) == (3, 2)
    written(folder, "extends: child.yaml", "parent.yaml")
    with pytest.raises(SettingsError, match=r"child.yaml -> parent.yaml -> child.yaml"):
        load_settings(child)


def test_variables_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDS", "/data/seeds.jsonl")
    monkeypatch.delenv("OTHERS", raising=False)
    text = "extends: demo\ncorpus: {files: {maths: ['${SEEDS}', '${SEEDS:-x}', '${OTHERS:-folder}/a.jsonl']}}"
    read = load_settings(written(tmp_path, text)).corpus.files
    assert read == {"maths": ["/data/seeds.jsonl", "/data/seeds.jsonl", "folder/a.jsonl"]}


@pytest.mark.parametrize("profile", [*sorted(path.stem for path in PROFILES.glob("*.yaml")), SMALL])
def test_every_profile_of_ours_loads(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDS", "seeds.jsonl")
    monkeypatch.setenv("BENCHMARKS", "benchmarks")
    monkeypatch.setenv("TEACHER_URL", "http://127.0.0.1:8001/v1")
    monkeypatch.setenv("TEACHER_MODEL", "a-model")
    settings = load_settings(profile)
    assert bool(settings.students) == (profile != "paper")  # what three profiles share
    assert settings.domains == sorted(settings.domains) != []
    assert settings.profile == Path(profile).stem


def test_workers_are_no_part_of_what_a_result_depends_on_and_all_else_is() -> None:
    for section in (Engine(), Sandbox()):
        assert section.canonical() == section.model_copy(update={"workers": 7}).canonical()
        for name, value in section.model_dump(exclude={"vllm", "server", "chat_api", "ray"}).items():
            changed = section.model_copy(update={name: f"{value}x" if isinstance(value, str) else (value or 0) + 1})
            assert (changed.canonical() == section.canonical()) == (name == "workers"), name


def test_an_engine_depends_on_its_own_section_only_and_not_on_where_it_runs() -> None:
    def canonical(**engine: object) -> str:
        return Engine.model_validate(engine).canonical()

    assert canonical() == canonical(vllm={"tensor_parallel": 2}, server={"model": "x"}, ray={"engine": "transformers"})
    assert canonical(name="vllm") != canonical(name="vllm", vllm={"tensor_parallel": 2})
    assert canonical(name="vllm") == canonical(name="vllm", vllm={"gpu_memory_share": 0.5})
    assert canonical(name="server") == canonical(name="server", server={"urls": ["http://a/v1"], "concurrency": 9})
    assert canonical(name="server") != canonical(name="server", server={"model": "teacher"})
    assert canonical(name="ray") == canonical(name="ray", ray={"actors": 9})
    assert canonical(name="ray") != canonical(name="ray", ray={"engine": "transformers"})


TEACHERS = """
extends: demo
teachers:
  large: {model: {hub_id: org/large, revision: abc}, chat: {arguments: {reasoning_effort: high}}}
  served: {model: {hub_id: org/served}, engine: {name: server, server: {urls: [http://10.0.0.1:8000/v1]}}}
labels: {voter: {teacher: served, sampling: {max_new_tokens: 9}}}
distillation: {teacher: {teacher: large, sampling: {temperature: 1.0}}}
"""


def test_a_teacher_runs_on_the_profiles_engine_with_its_own_settings_laid_over(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, TEACHERS))
    assert settings.engine_of("large") == settings.engine == load_settings("demo").engine
    served = settings.engine_of("served")
    assert (served.name, served.server.urls) == ("server", ["http://10.0.0.1:8000/v1"])
    assert served.model_copy(update={"name": "transformers", "server": settings.engine.server}) == settings.engine
    assert {where: role.teacher for where, role in settings.roles().items()} == {
        "labels.voter": "served", "distillation.teacher": "large",
    }  # fmt: skip


def test_settings_have_one_canonical_text_whoever_wrote_them_in_which_order(tmp_path: Path) -> None:
    first = load_settings(written(tmp_path, "extends: demo\nem: {rounds: 3, candidates: 2}\nlanes: 1"))
    second = load_settings(written(tmp_path, "lanes: 1\nem: {candidates: 2, rounds: 3}\nextends: demo"))
    assert first.canonical() == second.canonical()
    assert first.em.canonical() != load_settings("demo").em.canonical()


def test_what_an_e_step_uses_changes_with_its_own_settings_only() -> None:
    em = load_settings("demo").em
    assert em.e_step_uses() == em.model_copy(update={"rounds": 9, "held_out": em.held_out}).e_step_uses()
    assert em.e_step_uses() != em.model_copy(update={"candidates": 9}).e_step_uses()
    assert em.measured_by() == em.model_copy(update={"candidates": 9}).measured_by()


def test_paper_numbers_are_the_defaults() -> None:
    settings = Settings(profile="x", base=BASE, students={"s": Student(base=BASE)}, synthesis={"concept_sets": {}})
    assert (settings.em.candidates, settings.em.rounds, settings.em.m_step) == (8, 6, "greedy")
    assert settings.em.cold_start.arguments["learning_rate"] == 2e-5
    assert (
        settings.em.e_step.arguments["learning_rate"] == settings.em.m_step_training.arguments["learning_rate"] == 2e-6
    )
    assert (settings.labels.votes, settings.labels.min_votes) == (8, 4)
    assert (settings.self_play.rollouts, settings.self_play.max_pass_rate) == (8, 0.5)
    assert settings.self_play.training.arguments["beta"] == 0.1
    assert settings.evaluation.sampling.model_dump() == {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 81920}
    assert settings.synthesis.sampling.model_dump() == {"temperature": 0.8, "top_p": 1.0, "max_new_tokens": 4096}
    assert settings.deduplication.decontamination_ngram == 13


def test_settings_cannot_be_changed_after_loading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings("demo").em.rounds = 3  # type: ignore[misc]


def test_where_state_lives_and_which_profile_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert (home(), profile_name()) == (tmp_path / ".promptcot", "demo")
    monkeypatch.setenv("PROMPTCOT_HOME", "state")
    monkeypatch.setenv("PROMPTCOT_PROFILE", "mine.yaml")
    assert (home(), profile_name()) == (tmp_path / "state", str(tmp_path / "mine.yaml"))
    monkeypatch.setenv("PROMPTCOT_PROFILE", "small")
    assert profile_name() == "small"


def test_base_examples_are_asked_for_by_domain(tmp_path: Path) -> None:
    text = "extends: demo\ncorpus: {base_problems: 9, files: {maths: [a.jsonl]}}"
    corpus = load_settings(written(tmp_path, text)).corpus
    assert corpus.base_examples() == {"maths": 9, "mini_maths": 250, "mini_code": 100}


def test_a_part_of_a_section_is_what_its_canonical_text_has() -> None:
    engine = load_settings("demo").engine
    assert engine.part("name", "workers") == {"name": "transformers"}  # workers change no result
    with pytest.raises(KeyError, match="Engine has no setting nme"):
        engine.part("nme")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("engine: {name: vlm}", "engine.name: .*'vlm' is not one of transformers, vllm, server, chat_api, ray"),
        ("engine: {dtype: float31}", "engine.dtype: .*'float31' is not one of"),
        ("deduplication: {threshold: 0.1}", "deduplication.threshold: .*greater than or equal to 0.2"),
        ("corpus: {files: {math: [a.jsonl]}}", "'math' is not one of maths, code"),
        ("corpus: {procedural: {maths: {}}}", "'maths' is not one of mini_maths, mini_code"),
        ("benchmarks: {files: {coding: {a: a.jsonl}}}", "'coding' is not one of"),
        ("students: {tiny: {engine: {batchsize: 3}}}", "students.tiny.engine.batchsize"),
        ("teachers: {t: {model: {hub_id: a/b}, engine: {vllm: {tensor_parallel: 0}}}}", "tensor_parallel"),
        ("engine: {server: {urls: ['http://me:secret@10.0.0.1/v1']}}", "address 0 holds a user, a password or a query"),
        ("engine: {server: {urls: ['10.0.0.1:8000']}}", "address 0 is no http"),
        (
            "em: {cold_start: {arguments: {hub_token: my-secret}}}",
            "cold_start.arguments: .*hub_token holds a key .* HF_TOKEN",
        ),
        ("engine: {vllm: {arguments: {hf_token: my-secret}}}", "vllm.arguments: .*hf_token holds a key"),
        ("engine: {chat_api: {arguments: {extra_headers: [{Authorization: my-secret}]}}}", "Authorization holds a key"),
        ("engine: {chat_api: {arguments: {extra_body: {API_KEY: my-secret}}}}", "API_KEY holds a key"),
        ("synthesis: {focus: {first: {student: tiny, strength: .inf}}}", "strength: Input should be a finite"),
        ("corpus: {procedural: {mini_maths: {annotators: {planner: .inf}}}}", "planner: Input should be a finite"),
        ("seed: 9223372036854775808", "seed: .*less than 9223372036854775808"),
        ("engine: {server: {urls: ['http://10.0.0.1:80000/v1']}}", "address 0 is no http"),
        ("engine: {chat_api: {urls: ['http://a..b/v1']}}", "address 0 is no http"),
    ],
)
def test_names_and_ranges_are_checked_when_a_profile_is_loaded(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=told) as refused:
        load_settings(written(tmp_path, f"extends: demo\n{text}"))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        *("token", "accessToken", "huggingface_token", "X-Vault-Token", "GH_TOKEN", "id_token", "authorization_header"),
        *(
            "key",
            "apikey",
            "api_keys",
            "X-Api-Key",
            "private_key",
            "aws_secret_access_key",
            "Ocp-Apim-Subscription-Key",
        ),
        *("passwd", "db_password", "passwords", "passphrase", "client_secret", "secrets", "credentials", "Set-Cookie"),
        *("Proxy-Authorization", "basic_auth", "bearer", "jwt", "dsn", "connection_string"),
    ],
)
def test_arguments_hold_no_secret_of_any_usual_name(name: str, tmp_path: Path) -> None:
    arguments = f"{{deeper: [{{{name}: my-secret}}]}}"
    with pytest.raises(SettingsError, match=f"arguments: .*{name} holds a key") as refused:
        load_settings(written(tmp_path, f"extends: demo\nem: {{cold_start: {{arguments: {arguments}}}}}"))
    assert "my-secret" not in str(refused.value)


def test_arguments_about_tokens_are_no_secrets(tmp_path: Path) -> None:
    arguments = (
        "{eos_token: </s>, pad_token: <pad>, think_end_token: </t>, max_tokens: 5, token_budget: 3, sort_key: a}"
    )
    settings = load_settings(written(tmp_path, f"extends: demo\nem: {{cold_start: {{arguments: {arguments}}}}}"))
    assert settings.em.cold_start.arguments["eos_token"] == "</s>"


def test_the_domains_that_settings_may_name_are_those_there_are() -> None:
    from promptcot_assets.domains import DOMAINS, ProceduralDomain
    from promptcot_assets.settings.profile import Benchmarks, Corpus

    for name, domain in DOMAINS.items():
        Corpus(files={name: []})
        Benchmarks(files={name: {}})
        if isinstance(domain, ProceduralDomain):
            Corpus(procedural={name: {}})


def test_the_engines_that_settings_may_name_are_those_there_are() -> None:
    from promptcot_assets.inference.factory import ENGINES
    from promptcot_assets.settings.engines import PACKAGES, Engine

    assert ENGINES.keys() == PACKAGES.keys() == {Engine(name=name).name for name in ENGINES}


def test_every_optimiser_has_a_trainer_and_a_table_to_learn_from() -> None:
    from promptcot_assets.settings.profile import OPTIMISERS, SelfPlay
    from promptcot_assets.tables import TABLES

    for name, one in OPTIMISERS.items():
        assert importlib.util.find_spec(f"training.{name}")
        assert SelfPlay(optimiser=name, teacher="big").learning is one
        assert one.online or one.learns_from in TABLES


def test_an_overlay_changes_what_it_sets_and_nothing_else(tmp_path: Path) -> None:
    text = (
        "extends: demo\nengine: {batch_size: 7}\nstudents: {tiny: {engine: {dtype: bfloat16, vllm: {max_running: 3}}}}"
    )
    settings = load_settings(written(tmp_path, text))
    own = settings.engine_of_student("tiny")
    assert (own.batch_size, own.dtype, own.vllm.max_running) == (7, "bfloat16", 3)
    assert settings.students["tiny"].canonical() == load_settings("demo").students["tiny"].canonical()


INJECTED = {
    "a line": "8\nseed: 1",
    "a mapping": "{b: 1}",
    "a list": "[1, 2]",
    "a comment": "x # y",
    "an alias": "*b",
    "a tag": "!!python/object/apply:os.system [id]",
    "a quote": '"; seed: 1',
    "a document": "x\n---\nseed: 1",
    "a merge": "<<",
}


@pytest.mark.parametrize("value", INJECTED.values(), ids=INJECTED)
@pytest.mark.parametrize("text", ["a: ${V}", 'a: "${V}"', "a: '${V}'", "a: |-\n  ${V}", "{a: ${V}}"])
def test_what_a_variable_holds_stays_one_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, value: str
) -> None:
    monkeypatch.setenv("V", value)
    assert loading._read(written(tmp_path, text)) == {"a": value}


def test_a_key_from_a_variable_merges_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V", "<<")
    assert loading._read(written(tmp_path, "b: &b {x: 1}\na: {${V}: *b}")) == {"b": {"x": 1}, "a": {"<<": {"x": 1}}}


@pytest.mark.parametrize(("value", "means"), [("8", 8), ("1.5", 1.5), ("true", True), ("null", None), ("text", "text")])
def test_an_unquoted_variable_may_be_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, means: object
) -> None:
    monkeypatch.setenv("V", value)
    assert loading._read(written(tmp_path, "a: ${V}\nb: '${V}' # ${NOT_SET}")) == {"a": means, "b": value}


UNREADABLE = {
    "too deep": ("[" * 5000, "nested too deep"),
    "a key of two lines": ('"a\\nb": 1', "the key 'a\\\\nb'"),
    "such a key inside": ('students: {"a\\u0007": {}}', "the key"),
    "a section twice": (
        "labels: {stated: drop}\nlanes: 1\nlabels: {votes: 4}",
        "'labels' stands in line 1 and again in line 3",
    ),
    "a setting twice": ("labels:\n  stated: drop\n  stated: ignore", "'stated' stands in line 2 and again in line 3"),
    "an impossible date": ("a: 2026-13-45", "not valid YAML"),
    "inside itself": ("a: &a [*a]\nlanes: many", "holds itself"),
}


@pytest.mark.parametrize(("text", "words"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_one_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load_settings(written(tmp_path, text))


def test_a_budget_of_tokens_is_recorded_only_where_there_is_one() -> None:
    """What homes recorded before the setting was there still fits."""
    assert "batch_tokens" not in Engine().canonical()
    assert json.loads(Engine(batch_tokens=4096).canonical())["batch_tokens"] == 4096


def test_a_student_that_does_not_play_may_teach(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "extends: demo\nstudents: {big: {base: {scratch: {layers: 3}}, plays: false}}\n"
        "self_play: {optimiser: distill, teacher: big}\n"
    )
    settings = load_settings(str(tmp_path / "own.yaml"))
    assert settings.learned_from == settings.students["big"].base
