"""What type checkers must reject: a comment that is not needed is an error itself."""

import evstore


async def misuse(store: evstore.Store) -> None:
    await store.get("Mesh", "default", "mesh")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    await store.create("Mesh", "default")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    await store.create("Mesh", "default", spec=[])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await store.update("Mesh", spec={})  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await store.delete("Mesh", "default", version="3")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    evstore.Key("Mesh", "", "default")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    store.view("tags")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
