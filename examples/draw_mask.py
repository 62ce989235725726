# SPDX-License-Identifier: Apache-2.0
"""Draw who sees whom for one sentence pair: the training mask beside the attention that decoding performed."""

import argparse
import sys

from transformers_simul import AutoSimulModel, SimulProcessor, WaitKPolicy
from transformers_simul.mask_picture import draw_mask
from transformers_simul.plots import plot_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_name_or_path", required=True, help="a trained folder, such as output/demo")
    parser.add_argument("--source", required=True, help="source sentence")
    parser.add_argument("--target", required=True, help="its translation")
    parser.add_argument("--wait_k", type=int, default=2, help="k of the policy (default 2)")
    parser.add_argument("--layer", type=int, help="with --head: the attention of one head instead of the mask")
    parser.add_argument("--head", type=int, help="from 0")
    parser.add_argument("--path", help="also draw the read/write path of the model's own translation to this file")
    parser.add_argument("--output", default="mask.png", help="PNG or SVG file (default mask.png)")
    args = parser.parse_args()
    model = AutoSimulModel.from_pretrained(args.model_name_or_path, attn_implementation="eager").eval()
    processor = SimulProcessor.from_pretrained(args.model_name_or_path)
    policy = WaitKPolicy(args.wait_k)
    picture = draw_mask(args.output, model, processor, args.source, args.target, policy, args.layer, args.head)
    same, cells = picture.agreement
    print(f"{policy}: training mask and decoding agree in {same} of {cells} cells; written to {args.output}")
    print(f"streamed logits differ from one masked training forward by at most {picture.logit_difference:.1e}")
    if args.path:
        output = model.generate(**processor(source=args.source), policy=policy, return_dict_in_generate=True)
        plot_path(args.path, processor.split(args.source), processor.words(output.words[0]), output.delays[0])
        print(f"read/write path written to {args.path}")
    if same < cells:
        sys.exit("error: the decoder broke the law")


if __name__ == "__main__":
    main()
