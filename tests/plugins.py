"""Distributions with entry points, laid down in a folder as pip leaves them."""

from haemo.extensions import Extensions


def lay_down(folder, name, modules, points, group):
    """Put modules and metadata of a distribution into a folder.

    Parameters
    ----------
    folder : Path
    name : str
    modules : dict of str to str
        Source by module name.
    points : dict of str to str
        ``module:attribute`` by the name of the entry point.
    group : str
    """
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [f"{point} = {value}" for point, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")


def looked_up_anew(table):
    """Give a table like this one that has not yet looked for its plug-ins."""
    return Extensions(table.noun, table.group, table._kind, table._builtin)
