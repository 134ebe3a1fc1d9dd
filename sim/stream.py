"""``sim stream``: a video drawn by a program, by the interpreter of the machine and by its emitted Verilog."""

import time
from pathlib import Path

import click
import numpy as np

from golden.cli import options as drawing
from golden.cli import stream as videos
from golden.common import console
from golden.diffusion.differential import run
from golden.diffusion.differential.method import Method
from golden.diffusion.differential.streams import calibrate_stream, pushed
from golden.diffusion.sampling.streaming import Stream, Streaming
from golden.diffusion.zoo.moving import digit_video
from golden.diffusion.zoo.pictures import grid, write_png
from rtl_gen import options
from rtl_gen.program.commands import on_machine, one_method
from rtl_gen.program.streaming import compile_stream
from sim.machine import drawn as drawings
from sim.machine.run import Failure


@click.command("stream")
@drawing.network
@one_method
@videos.digit
@videos.shift
@click.option("--frames", default=8, show_default=True, type=click.IntRange(2, 1000), help="Frames of the video.")
@videos.timesteps
@drawing.seed
@options.machine
@drawings.executor
@drawings.resume
@click.option("--png", type=click.Path(path_type=Path), help="Write frames, images, and the dense network's, in rows.")
@options.as_json
@click.pass_context
def command(
    context: click.Context,
    network: str,
    method: str,
    digit: int,
    shift: str,
    frames: int,
    timesteps: str,
    seed: int,
    machine: options.Machine,
    executor: str,
    resume: bool,
    png: Path | None,
    as_json: bool,
) -> None:
    """Denoise a short video of a moving digit (StreamDiffusion) by one program: frames and noise in memory.

    The program's images are compared with golden's exact executor. The Verilog is compared with the interpreter after
    each call besides, all of memory, and every counter at the end. A difference ends the command with code 1. Slots are
    rows of the array. The stream is calibrated on another digit that moves alike.
    """
    drawing.writable(png)
    how = Streaming(drawing.numbers(timesteps, "Timesteps"), seed=seed)
    model = videos.moving(network)
    if frames <= how.items:
        raise ValueError(f"Frames must be more than the {how.items} slots of the stream, not {frames}")
    chosen = on_machine(Method.named(method), machine)
    runs = drawings.Run.of(executor, "stream", (network, method, machine.name), resume)
    begin = time.perf_counter()
    moves = drawing.shift(shift)
    video, other = (digit_video(one, frames, shift=moves, seed=seed) for one in (digit, videos.OTHERS["digit"]))
    profile = calibrate_stream(model, other, videos.OTHERS["digit"], how)
    streamed = compile_stream(
        Stream(model, digit, how), video, chosen, profile, track=lambda calls: console.progress(calls, "Compiling")
    )
    seconds = time.perf_counter() - begin
    about = ", ".join([network, method, machine.name, f"{frames} frames", f"digit {digit}", f"seed {seed}"])
    try:
        found = runs.draw(streamed, about)
        images = streamed.images(found.machine())
        with console.advancing("Comparing with golden", 1) as advance:
            exact = run.executor(model, chosen, profile, exact=True)
            expected = pushed(Stream(model, digit, how, executor=exact), video)
            advance()
        for number, (got, wanted) in enumerate(zip(images, expected, strict=True)):
            if not np.array_equal(got, wanted):
                raise Failure(f"image {number} differs from that of golden's exact executor")
    except Failure as failure:
        click.echo(f"FAIL {failure}", err=True)
        context.exit(1)
    dense = pushed(Stream(model, digit, how), video)
    if png is not None:
        shown = np.concatenate([video[: len(images)], images, dense])
        write_png(png, grid(shown, len(images)))
    tables = found.tables(model, images, dense)
    tables["run"][0] |= {"compile s": round(seconds, 1)}
    told = {"network": network, "method": method, "machine": machine.name, "frames": frames, "executor": executor}
    title = f"{network}, {method}, {frames} frames on {machine.name} by the {executor} executor"
    drawings.show(title, told | {"timesteps": how.timesteps}, tables, as_json=as_json)
    if not as_json:
        click.echo(f"All {len(images)} images are equal to those of golden's exact executor.")
        if found.rows:
            click.echo(f"Memories are equal after each of {frames} calls, and so are all counters at the end.")
