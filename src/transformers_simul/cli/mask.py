# SPDX-License-Identifier: Apache-2.0
"""`transformers-simul mask`: draw what each token may attend to, in training and while decoding."""

import argparse
from typing import Any

from .flags import add_policy_flags, check_output, chosen_policy
from .loading import add_model, find_model

EXAMPLES = """
examples:
  transformers-simul mask models/simul-falcon-en-de --source "Already configured." --target "Bereits konfiguriert."
  transformers-simul mask models/simul-falcon-en-de --source "..." --target "..." --layer 0 --head 3 --output head.png
  transformers-simul mask models/simul-falcon-en-de --source "..." --target "..." --path path.svg
  transformers-simul mask models/simul-falcon-en-de --source "..." --target "..." --policy learned:0.5,max=5
"""


def add_command(commands: Any) -> None:
    """Add the command and its flags to the parser."""
    parser = commands.add_parser(
        "mask",
        help="draw the training mask beside what decoding attended to",
        description="Draw who sees whom for one sentence pair; fails if decoding broke the law.",
        epilog=EXAMPLES,
    )
    add_model(parser)
    parser.add_argument("--source", required=True, help="source sentence")
    parser.add_argument("--target", required=True, help="its translation")
    add_policy_flags(parser, wait_k="2")
    parser.add_argument(
        "--layer", type=int, help="layer, from 0; with --head, draw one head's attention instead of the mask"
    )
    parser.add_argument("--head", type=int, help="attention head, from 0; needs --layer")
    parser.add_argument(
        "--no-peek-rows", action="store_true", help="leave out the peek rows, which ask whether a word ends"
    )
    parser.add_argument("--path", help="also draw the read/write path of the model's own translation to this file")
    parser.add_argument("--output", default="mask.png", help="PNG or SVG file (mask.png)")
    parser.set_defaults(run=_mask)


def _mask(args: argparse.Namespace) -> int:
    policy = chosen_policy(args)
    check_output("output", args.output)
    if args.path:
        check_output("path", args.path)
    find_model(args.model)
    from ..evaluation.mask_picture import draw_mask
    from ..evaluation.plots import plot_path
    from .loading import load

    model, processor = load(args.model, args.trust_remote_code, attn_implementation="eager")
    sentences = (args.source, args.target)
    picture = draw_mask(
        args.output, model, processor, *sentences, policy, args.layer, args.head, peek_rows=not args.no_peek_rows
    )
    same, cells = picture.agreement
    print(f"{policy}: training mask and decoding agree in {same} of {cells} cells; written to {args.output}")
    print(f"streamed logits differ from one masked training forward by at most {picture.logit_difference:.1e}")
    if args.path:
        output = model.generate(**processor(source=args.source), policy=policy, return_dict_in_generate=True)
        plot_path(args.path, processor.split(args.source), processor.words(output.words[0]), output.delays[0])
        print(f"read/write path written to {args.path}")
    if same < cells:
        raise ValueError("the decoder broke the law: mask and attention must agree in every cell.")
    return 0


__all__ = ["add_command"]
