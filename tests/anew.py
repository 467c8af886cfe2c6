"""What a new command has, in one process of tests: no recipe is read, no key taken, no task known."""

import luigi

from recipes.reader import load_recipe
from workflows import stage
from workflows.recipe_plan import plan_of


def begin_anew() -> None:
    plan_of.cache_clear()
    load_recipe.cache_clear()
    stage._store.cache_clear()
    luigi.task_register.Register.clear_instance_cache()
