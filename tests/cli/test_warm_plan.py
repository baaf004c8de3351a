"""What `--dry-run` says of earlier sweeps and of conditions."""

from recorded_sweep import NAME, SEARCH_SPACE


def plan_of(command, tmp_path, *overrides: str) -> str:
    path = tmp_path / "next.yaml"
    path.write_text(SEARCH_SPACE.replace(NAME, "next"))
    options = [word for override in overrides for word in ("--set", override)]
    said = command("run", str(path), "--dry-run", *options)
    assert (said.code, said.err) == (0, "")
    return said.out


def test_the_plan_counts_what_is_taken_over_and_what_is_left_out(command, recorded, tmp_path):
    narrower = "parameters.generator_lr={type: float, low: 1.0e-5, high: 1.0e-4, log: true}"
    plan = plan_of(command, tmp_path, f"search.warm_start=[{NAME}]", narrower)
    lines = [line.strip() for line in plan.splitlines()]
    assert f"taken over from earlier sweeps: 1 of {NAME}" in lines
    assert "left out: 3 with a generator_lr that this sweep does not try, 1 not complete" in lines


def test_without_a_number_of_trials_the_plan_promises_none(command, recorded, tmp_path):
    plan = plan_of(command, tmp_path, "budget={hours: 1.5}")
    assert "1.5 hours; trials that run when it is used up go on to their end" in plan
    assert "as many trials as the time allows" in plan


def test_the_plan_tells_conditions_and_who_draws_at_random(command, recorded, tmp_path):
    condition = "parameters.guidance_scale={type: float, low: 1, high: 2, when: {override: random}, otherwise: 1}"
    plan = plan_of(command, tmp_path, condition, "search.sampler=nsga2")
    assert "from 1 to 2 where override is random, otherwise 1" in plan
    assert "guidance_scale at random, as nsga2 models no conditions" in plan
    assert "at random" not in plan_of(command, tmp_path, condition)


def test_a_name_that_cannot_be_started_from_is_refused_before_anything_is_made(command, recorded, tmp_path):
    path = tmp_path / "next.yaml"
    path.write_text(SEARCH_SPACE.replace(NAME, "next"))
    said = command("run", str(path), "--set", f"search.warm_start=[{NAME}]", "--set", "trial.steps=40")
    assert (said.code, said.out) == (2, "")
    assert f"search.warm_start: {NAME}: its trial.steps is 20 and not 40" in said.err
    assert not (recorded / "runs" / "next").exists()
