import anyio


async def test_x():
    t = anyio.current_time()
    await anyio.sleep(3600)
    assert anyio.current_time() - t >= 3600 - 1e-6
    with anyio.move_on_after(5) as s:
        await anyio.sleep(10)
    assert s.cancelled_caught
