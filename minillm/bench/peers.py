"""The peers' side of `minillm bench cpu`: PyTorch and transformers, each at its best.

Nothing here is imported unless the peer is installed; the product needs none of it.
"""

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, n_head, n_embd):
        super().__init__()
        self.n_head = n_head
        self.norm1, self.norm2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv, self.out = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.up, self.down = nn.Linear(n_embd, 4 * n_embd), nn.Linear(4 * n_embd, n_embd)

    def forward(self, x):
        B, T, C = x.shape
        heads = (B, T, self.n_head, C // self.n_head)
        q, k, v = (t.view(heads).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(C, 2))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, C))
        return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """The model of `ours.gpt_step`, written as PyTorch's users write it."""

    def __init__(self, vocab_size, block_size, n_layer, n_head, n_embd):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, n_embd)
        self.positions = nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList(Block(n_head, n_embd) for _ in range(n_layer))
        self.norm = nn.LayerNorm(n_embd)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02 / (2 * n_layer) ** (0.5 * ("out" in name)))

    def forward(self, ids, targets):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = functional.linear(self.norm(x), self.tokens.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class LSTM(nn.Module):
    def __init__(self, vocab_size, n_hidden, n_layer):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, n_hidden)
        self.layers = nn.LSTM(n_hidden, n_hidden, n_layer, batch_first=True)
        self.head = nn.Linear(n_hidden, vocab_size)

    def forward(self, ids, targets):
        y, _ = self.layers(self.embedding(ids))
        return functional.cross_entropy(self.head(y).flatten(0, 1), targets.flatten())


def gpt_step(threads, *, batch, compiled=False, **sizes):
    model = GPT(**sizes)
    run = torch.compile(model) if compiled else model
    return _step(model, run, threads, sizes["vocab_size"], (batch, sizes["block_size"]))


def lstm_step(threads, *, vocab_size, block, n_hidden, n_layer, batch):
    model = LSTM(vocab_size, n_hidden, n_layer)
    return _step(model, model, threads, vocab_size, (batch, block))


def _step(model, run, threads, vocab_size, shape):
    torch.set_num_threads(threads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def work():
        ids, targets = torch.randint(vocab_size, (2, *shape))
        optimizer.zero_grad(set_to_none=True)
        run(ids, targets).backward()
        optimizer.step()

    return work, 1


def generate(threads, *, folder, prompt, new_tokens):
    import transformers

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    model = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)

    def work():
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=0,
            )
        assert out.shape[1] == len(prompt) + new_tokens

    return work, new_tokens
