"""A distiller's state dict holds the student under the student's own names, and ``adapters.*``."""


def strip_student_prefix(module, state_dict: dict, prefix: str, local_metadata: dict) -> None:
    """State dict hook: the student's weights under the student's own names."""
    own = f'{prefix}student.'
    for name in [name for name in state_dict if name.startswith(prefix)]:
        state_dict[prefix + name[len(own) :] if name.startswith(own) else name] = state_dict.pop(name)


def add_student_prefix(module, state_dict: dict, prefix: str, *args) -> None:
    """Load hook, the reverse: accepts a distiller's checkpoint and a plain student's."""
    for name in [name for name in state_dict if name.startswith(prefix)]:
        if not name.startswith(f'{prefix}adapters.'):
            state_dict[f'{prefix}student.{name[len(prefix) :]}'] = state_dict.pop(name)
