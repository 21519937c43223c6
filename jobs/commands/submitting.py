"""`ssig submit`: its options. Ray is imported once the job is known to be right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Texts = list[str] | None


def submit(
    job: Annotated[Path, typer.Argument(metavar="JOB.yaml", help="Job file.")],
    address: Annotated[str, typer.Option(metavar="URL", help="Dashboard of the cluster.")] = "http://127.0.0.1:8265",
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", "--wait/--no-wait", help="Print the log until the job ends.")
    ] = True,
    working_dir: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Folder on the cluster that relative paths of the job start from."),
    ] = None,
    submission_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the submission; one that is taken is refused. By default Ray's."),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Container image to run in, which has ssig; excludes --pip and --upload."),
    ] = None,
    pip: Annotated[
        Texts,
        typer.Option(
            metavar="PACKAGE", help="Package to install on the nodes, or a requirements file. Repeat for several."
        ),
    ] = None,
    upload: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder with modules of your own to send, at most 100 MB.")
    ] = None,
    exclude: Annotated[
        Texts, typer.Option(metavar="PATTERN", help="Files in it that are not sent. Repeat for several.")
    ] = None,
    env: Annotated[
        Texts,
        typer.Option(metavar="NAME=VALUE", help="Environment variable; the dashboard shows it. Repeat for several."),
    ] = None,
    metadata: Annotated[
        Texts, typer.Option(metavar="NAME=VALUE", help="Note that the dashboard shows. Repeat for several.")
    ] = None,
    num_cpus: Annotated[float | None, typer.Option(metavar="N", help="CPU cores to reserve for the driver.")] = None,
    num_gpus: Annotated[float | None, typer.Option(metavar="N", help="GPUs to reserve for the driver.")] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory to reserve for the driver, such as 4GB.")
    ] = None,
) -> int:
    """Run a job on a Ray cluster and print its log.

    The job and what is sent with it are checked first. The exit code is that of the job.
    """
    from jobs.commands.submission import Submission, bytes_of, variables

    submission = Submission(
        job_file=job,
        working_dir=working_dir,
        submission_id=submission_id,
        image=image,
        pip=pip or (),
        upload=upload,
        exclude=exclude or (),
        env=variables("--env", env or ()),
        metadata=variables("--metadata", metadata or ()),
        num_cpus=num_cpus,
        num_gpus=num_gpus,
        memory=bytes_of("--memory", memory),
    )
    submission.check()  # refuses a wrong job before Ray is imported
    from pipeline.driver.needs_ray import require_ray

    require_ray("submit", str(job), "ssig attribute JOB.yaml --in-process")
    from jobs.commands.submit import submit as send

    return send(submission, address, follow=follow)
