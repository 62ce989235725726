# SPDX-License-Identifier: Apache-2.0
"""An agent for SimulEval 1.1.4, which then does the reading and the scoring. In an environment with SimulEval:

`simuleval --agent-class transformers_simul.evaluation.simuleval_agent.SimulAgent --model models/simul-falcon-en-de
--wait-k 3 --source test.en --target test.de --source-type text --target-type text --output log`
"""

from argparse import ArgumentParser, Namespace
from typing import Any

try:
    from simuleval.agents import TextToTextAgent
    from simuleval.agents.actions import Action, ReadAction, WriteAction
    from simuleval.utils import entrypoint
except ImportError as error:
    raise ImportError(
        "transformers_simul.evaluation.simuleval_agent needs SimulEval 1.1.4: pip install "
        "'transformers_simul[simuleval]', then pip install --no-deps simuleval==1.1.4 (docs/evaluation.md)."
    ) from error

# SimulEval runs an agent's file outside its package, so imports are absolute.
from transformers_simul import AutoSimulModel, SimulCache, SimulProcessor, SourceStream
from transformers_simul.models.decoding import decode_step
from transformers_simul.models.policy_names import named
from transformers_simul.models.row_decoder import RowDecoder
from transformers_simul.streaming.options import decoder_options


@entrypoint
class SimulAgent(TextToTextAgent):
    """Drives a trained folder through SimulEval, word by word, with the cache kept.

    SimulEval sends a source word before every answer, so an answer holds all words that the policy writes before its
    next READ.
    """

    def __init__(self, args: Namespace):
        self.model = AutoSimulModel.from_pretrained(args.model).eval()
        self.processor = SimulProcessor.from_pretrained(args.model)
        # Not `self.policy`: SimulEval calls a method of that name.
        self.read_policy = named(args.policy or f"wait-{args.wait_k}", self.model)
        super().__init__(args)

    @staticmethod
    def add_args(parser: ArgumentParser) -> None:
        parser.add_argument("--model", required=True, help="a trained folder")
        either = parser.add_mutually_exclusive_group()
        either.add_argument(
            "--wait-k", "--wait_k", type=int, default=3, help="source words before the first target word (3)"
        )
        either.add_argument("--policy", help="instead of wait-k, such as confidence:0.6 or hold-2 (docs/policies.md)")

    def to(self, device: str, *args, **kwargs) -> None:
        self.model.to(device)

    def reset(self) -> None:
        super().reset()
        self.source, self.fed = SourceStream(), 0
        self.written: list[list[int]] = []
        self.answer: Any = None
        self.cache = SimulCache(1)
        row = RowDecoder(
            source=self.source.bind(self.processor),
            policy=self.read_policy,
            prompt=self.processor.prompt.fit(self.model),
            on_word=lambda ids, delay, elapsed_ms: self.written.append(ids),
            **decoder_options(self.model, self.processor),
        )
        self.run = row.run()

    def policy(self) -> Action:
        for word in self.states.source[self.fed :]:
            self.source.put(f"{word} ")
        self.fed = len(self.states.source)
        if self.states.source_finished:
            self.source.end()
        finished = self._advance()
        words, self.written = self.processor.words(self.written), []
        if finished or words:
            return WriteAction(self.processor.join(words), finished=finished)
        return ReadAction()

    def _advance(self) -> bool:
        """Continue until the row waits for source or ends, and return whether it ended."""
        try:
            while (ask := self.run.send(self.answer)) is not None:
                self.answer = decode_step(self.model, self.cache, {0: ask})[0]
            self.answer = None
        except StopIteration:
            return True
        return False
