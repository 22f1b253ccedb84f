# What rules of selection take. Functions are named after what they return.


def plan_setting(key):
    """A setting of the plan, e.g. n_max."""
    return lambda wildcards: config["plans"][wildcards.plan][key]
