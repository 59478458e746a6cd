"""Recurrent nets, audio, text and time series."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from tests.field.blocks import Attention, Trunk, conv
from tests.field.records import Structure, images, noise, several, tokens


class Crnn(nn.Module):
    """Audio-WestlakeU/ATST-SED CRNN_e2e.py, and CRNNs of OCR: CNN, bidirectional GRU, layer."""

    recurrent = nn.GRU

    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(conv(1, 8, 2), conv(8, 16, 2))
        self.rnn = self.recurrent(16, 12, bidirectional=True, batch_first=True)
        self.dense = nn.Linear(24, 5)

    def forward(self, x):
        return self.dense(self.rnn(self.cnn(x).mean(3).transpose(1, 2))[0])


class CrnnLstm(Crnn):
    """meijieru/crnn.pytorch: the same with nn.LSTM."""

    recurrent = nn.LSTM


class FramesThenLstm(nn.Module):
    """HHTseng/video-classification CRNN: a CNN on each frame, an LSTM over the frames."""

    def __init__(self):
        super().__init__()
        self.cnn, self.lstm = Trunk(), nn.LSTM(16, 12, batch_first=True)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        features = self.cnn(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.fc(self.lstm(features)[1][0][-1])


class ConvLstmCell(nn.Module):
    """One step of a convolutional LSTM."""

    def __init__(self, width, hidden):
        super().__init__()
        self.hidden, self.conv = hidden, nn.Conv2d(width + hidden, 4 * hidden, 3, 1, 1)

    def forward(self, x, state):
        h, c = state
        i, f, o, g = self.conv(torch.cat([x, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class ConvLstm(nn.Module):
    """ndrplz/ConvLSTM_pytorch: two cells, each of which is walked through all frames."""

    def __init__(self):
        super().__init__()
        self.cell_list = nn.ModuleList([ConvLstmCell(3, 8), ConvLstmCell(8, 8)])
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, frames):
        for cell in self.cell_list:
            zero = frames.new_zeros(len(frames), cell.hidden, *frames.shape[3:])
            state, found = (zero, zero), []
            for at in range(frames.shape[1]):
                state = cell(frames[:, at], state)
                found.append(state[0])
            frames = torch.stack(found, 1)
        return self.out(frames[:, -1])


class AudioConv(nn.Module):
    """facebookresearch/fairseq wav2vec 2.0: convolutions on the wave, then attention."""

    def __init__(self):
        super().__init__()
        self.feature_extractor = nn.ModuleList(
            [nn.Sequential(nn.Conv1d(a, b, 5, 2, 2), nn.GroupNorm(1, b), nn.GELU())
             for a, b in ((1, 8), (8, 12), (12, 16))]
        )  # fmt: skip
        self.layer_norm, self.attention = nn.LayerNorm(16), Attention(16)
        self.final_proj = nn.Linear(16, 5)

    def forward(self, wave):
        x = wave[:, None]
        for part in self.feature_extractor:
            x = part(x)
        x = self.layer_norm(x.transpose(1, 2))
        return self.final_proj(x + self.attention(x))


class Spectrogram(nn.Module):
    """qiuqiangkong/audioset_tagging_cnn: STFT kernels are frozen parameters of convolutions."""

    def __init__(self):
        super().__init__()
        self.real, self.imag = (nn.Conv1d(1, 9, 16, 8, bias=False) for _ in range(2))
        angles = torch.outer(torch.arange(9), torch.arange(16)) * (torch.pi / 8)
        self.real.weight.data, self.imag.weight.data = angles.cos()[:, None], angles.sin()[:, None]
        for part in (self.real, self.imag):
            part.requires_grad_(False)
        self.bn0 = nn.BatchNorm2d(9)
        self.blocks = nn.Sequential(conv(1, 8, 2), conv(8, 16, 2))
        self.fc = nn.Linear(16, 4)

    def forward(self, wave):
        power = self.real(wave[:, None]) ** 2 + self.imag(wave[:, None]) ** 2
        x = self.bn0(power.log1p()[..., None]).transpose(1, 3).transpose(2, 3)
        return self.fc(self.blocks(x).mean((2, 3)))


class Tcn(nn.Module):
    """locuslab/TCN: dilated convolutions with weight norm and skips."""

    def __init__(self):
        super().__init__()
        self.tcn = nn.ModuleList(
            [weight_norm(nn.Conv1d(a, 8, 3, dilation=d, padding=d))
             for a, d in ((4, 1), (8, 2), (8, 4))]
        )  # fmt: skip
        self.decoder = nn.Linear(8, 5)

    def forward(self, x):
        for part in self.tcn:
            y = F.relu(part(x))
            x = x + y if x.shape == y.shape else y
        return self.decoder(x.transpose(1, 2))


class TextCnn(nn.Module):
    """Kim's CNN for sentences: an embedding, parallel widths, dropout, one layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.convs = nn.ModuleList([nn.Conv1d(8, 6, width, padding=2) for width in (2, 3, 4)])
        self.dropout, self.fc = nn.Dropout(0.5), nn.Linear(18, 3)

    def forward(self, tokens):
        x = self.embed(tokens).transpose(1, 2)
        return self.fc(self.dropout(torch.cat([F.relu(c(x)).amax(2) for c in self.convs], 1)))


class Captioner(nn.Module):
    """sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning: a CNN, attention, an LSTM cell in a loop."""

    def __init__(self):
        super().__init__()
        self.encoder, self.embedding = Trunk(), nn.Embedding(20, 8)
        self.attention, self.start = nn.Linear(16 + 12, 1), nn.Linear(16, 12)
        self.decode_step, self.fc = nn.LSTMCell(8 + 16, 12), nn.Linear(12, 20)

    def forward(self, image, words):
        memory = self.encoder.features(image)[-1].flatten(2).transpose(1, 2)
        words, found = self.embedding(words), []
        h = c = torch.tanh(self.start(memory.mean(1)))
        for at in range(words.shape[1]):
            asked = torch.cat([memory, h[:, None].expand(-1, memory.shape[1], -1)], -1)
            seen = (self.attention(asked).softmax(1) * memory).sum(1)
            h, c = self.decode_step(torch.cat([words[:, at], seen], 1), (h, c))
            found.append(self.fc(h))
        return torch.stack(found, 1)


STRUCTURES = (
    Structure(Crnn, images(1), 3, ("dense",), lacks="attention"),
    Structure(CrnnLstm, images(1), 3, ("dense",), lacks="attention"),
    Structure(FramesThenLstm, noise(2, 3, 3, 32, 32), 5, ("fc",), lacks="attention"),
    Structure(ConvLstm, noise(2, 3, 3, 16, 16), 3, ("out",), lacks="attention norm statistics"),
    Structure(AudioConv, noise(2, 128), 3, ("final_proj",), lacks="statistics"),
    Structure(
        Spectrogram,
        noise(2, 256),
        3,
        ("fc",),
        lacks="attention",
    ),
    Structure(Tcn, noise(2, 4, 24), 4, ("decoder",), lacks="attention norm statistics"),
    Structure(TextCnn, tokens(2, 8), 3, ("fc",), lacks="attention norm statistics"),
    Structure(
        Captioner,
        several(images(), tokens(2, 3)),
        4,
        ("fc",),
        lacks="attention",
        open=("attention", "start", "decode_step"),
    ),
)
