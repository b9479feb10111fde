"""The parts of the network: ResNet blocks with frozen batch norm, the proposal head, the predictors of a region.

Feature maps are (batch, height, width, channels). Batch norm is folded into the convolution before it: it scales kernel
and bias, so that the graph holds convolutions with a bias, which run as one operation with their ReLU. The parameters
of the norm stay in one variable, so that what is saved is what was loaded.
"""

import keras
import tensorflow as tf

from tfvl.detector.config import DetectorConfig


class Conv(keras.layers.Layer):
    """A convolution with symmetric zero padding that keeps the size at stride 1, and a bias or a frozen batch norm.

    Args:
        in_channels, filters, size: input channels, output channels and side of the kernel.
        stride, dilation: stride and dilation of the convolution.
        norm_eps: epsilon of the batch norm; None: there is a bias instead.
        scale: standard deviation of the initial kernel; None: He et al. 2015.
        gain: the batch norm's initial scale.
    """

    def __init__(self, in_channels, filters, size, stride=1, dilation=1, norm_eps=None, scale=None, gain=1, **kwargs):
        super().__init__(**kwargs)
        self.kernel_shape = (size, size, in_channels, filters)
        self.stride, self.dilation, self.norm_eps, self.scale, self.gain = stride, dilation, norm_eps, scale, gain

    def build(self, input_shape=None):
        initializer = keras.initializers.RandomNormal(stddev=self.scale) if self.scale else "he_normal"
        self.kernel = self.add_weight(shape=self.kernel_shape, initializer=initializer, name="kernel")
        filters = self.kernel_shape[-1]
        if self.norm_eps is None:
            self.bias = self.add_weight(shape=(filters,), initializer="zeros", name="bias")
        else:  # scale, shift, mean, variance, one after the other
            self.norm = self.add_weight(shape=(4 * filters,), initializer=self.fresh_norm, trainable=False, name="norm")

    def call(self, x, training=None):
        kernel, bias = self.folded()
        edge = self.dilation * (self.kernel_shape[0] // 2)
        if training and self.dilation > 1:  # TensorFlow has no gradient of dilated convolutions on CPUs
            x = dilated(x, kernel, edge, self.dilation)
        else:
            padding = [[0, 0], [edge, edge], [edge, edge], [0, 0]]
            x = tf.nn.conv2d(x, kernel, self.stride, padding if edge else "VALID", dilations=self.dilation)
        return tf.nn.bias_add(x, bias)

    def folded(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the kernel and bias of one convolution that computes this convolution and its batch norm."""
        kernel = tf.convert_to_tensor(self.kernel)
        if self.norm_eps is None:
            return kernel, tf.convert_to_tensor(self.bias)
        gamma, beta, mean, variance = tf.split(tf.convert_to_tensor(self.norm), 4)
        factor = gamma * tf.math.rsqrt(variance + self.norm_eps)
        return kernel * factor, beta - mean * factor

    def fresh_norm(self, shape, dtype=None):
        """Initialises a batch norm that only scales: shift 0, mean 0, variance 1."""
        return tf.repeat(tf.constant([self.gain, 0, 0, 1], dtype), shape[0] // 4)


def dilated(x: tf.Tensor, kernel: tf.Tensor, edge: int, dilation: int) -> tf.Tensor:
    """Computes a dilated convolution, padded by `edge`, by plain ones on every `dilation`-th row and column."""
    rest = -tf.shape(x)[1:3] % dilation
    x = tf.space_to_batch(x, [dilation] * 2, tf.stack([tf.fill([2], edge), edge + rest], axis=1))
    x = tf.nn.conv2d(x, kernel, 1, "VALID")
    return tf.batch_to_space(x, [dilation] * 2, tf.stack([tf.zeros_like(rest), rest], axis=1))


class Composite(keras.layers.Layer):
    """A layer whose weights are those of its parts."""

    def build(self, input_shape=None):
        for part in self._flatten_layers(include_self=False, recursive=False):
            part.build()


class Block(Composite):
    """A bottleneck block of ResNet (He et al. 2016): 1×1, 3×3, 1×1 and a shortcut.

    Args:
        in_channels, inner, out_channels: channels before, inside and after the block.
        stride, dilation: stride of the block, and dilation of its 3×3 convolution.
    """

    def __init__(self, config: DetectorConfig, in_channels, inner, out_channels, stride=1, dilation=1, **kwargs):
        super().__init__(**kwargs)
        first, second = (stride, 1) if config.stride_in_1x1 else (1, stride)

        def conv(name, *sizes, **options):
            return Conv(*sizes, norm_eps=config.norm_eps, dtype=self.dtype_policy, name=name, **options)  # type: ignore[misc]  # sizes are at most three

        self.conv1 = conv("conv1", in_channels, inner, 1, stride=first)
        self.conv2 = conv("conv2", inner, inner, 3, stride=second, dilation=dilation)
        self.conv3 = conv("conv3", inner, out_channels, 1, gain=0.2)  # else a deep stack of new blocks would overflow
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = conv("shortcut", in_channels, out_channels, 1, stride=stride)

    def call(self, x):
        inner = tf.nn.relu(self.conv1(x))
        inner = tf.nn.relu(self.conv2(inner))
        return tf.nn.relu(self.conv3(inner) + (x if self.shortcut is None else self.shortcut(x)))


class Stage(Composite):
    """The blocks of one resolution; the first one has the stride.

    Args:
        number: 2 to 5, as in res2 to res5.
        stride, dilation: stride and dilation of the stage.
    """

    def __init__(self, config: DetectorConfig, number: int, stride=1, dilation=1, **kwargs):
        super().__init__(**kwargs)
        factor = 2 ** (number - 2)
        out_channels, inner = config.res2_out_channels * factor, config.width_per_group * factor
        in_channels = out_channels // 2 if number > 2 else config.stem_out_channels
        self.blocks = []
        for index in range(config.blocks[number - 2]):
            options = {"dilation": dilation, "dtype": self.dtype_policy, "name": f"block_{index}"}
            self.blocks.append(Block(config, in_channels, inner, out_channels, stride, **options))
            in_channels, stride = out_channels, 1

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Backbone(Composite):
    """The stem and res2 to res4, which map (batch, height, width, 3) to (batch, ⌈height/16⌉, ⌈width/16⌉, channels)."""

    def __init__(self, config: DetectorConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        options = {"norm_eps": config.norm_eps, "dtype": self.dtype_policy}
        self.stem = Conv(3, config.stem_out_channels, 7, stride=2, name="stem", **options)
        self.stages = [
            Stage(config, number, stride=stride, dtype=self.dtype_policy, name=f"res{number}")
            for number, stride in ((2, 1), (3, 2), (4, 2))
        ]

    def call(self, x):
        x = tf.nn.relu(self.stem(x))
        if self.config.max_pool:  # no padding, but a last window for the rest at the right and lower edges
            rest = tf.shape(x)[1:3] % 2
            after = tf.stack([tf.zeros_like(rest), 1 - rest], axis=1)
            x = tf.pad(x, tf.concat([[[0, 0]], after, [[0, 0]]], axis=0))  # zeros do not change a maximum after ReLU
            x = tf.nn.max_pool2d(x, 3, 2, "VALID")
        else:
            x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID")
        for stage in self.stages:
            x = stage(x)
        return x


class ProposalHead(keras.layers.Layer):
    """The RPN (Ren et al. 2015), which gives each cell's anchors a score, and deltas that move and scale them."""

    def __init__(self, config: DetectorConfig, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        channels = 4 * config.res2_out_channels
        hidden = channels if config.rpn_hidden_channels == -1 else config.rpn_hidden_channels
        self.num_anchors = len(config.anchor_sizes) * len(config.anchor_ratios)
        options = {"scale": 0.01, "dtype": self.dtype_policy}
        self.conv = Conv(channels, hidden, 3, name="conv", **options)
        self.objectness_logits = Conv(hidden, self.num_anchors, 1, name="objectness_logits", **options)
        self.anchor_deltas = Conv(hidden, 4 * self.num_anchors, 1, name="anchor_deltas", **options)

    def build(self, input_shape=None):
        for conv in (self.conv, self.objectness_logits, self.anchor_deltas):
            conv.build()
        self.cell_anchors = self.add_weight(
            shape=(self.num_anchors, 4), initializer=self.fresh_anchors, trainable=False, name="cell_anchors"
        )

    def fresh_anchors(self, shape, dtype=None):
        """Returns the anchors around (0, 0) of every size and ratio."""
        sides = [(size / ratio**0.5, size * ratio**0.5) for size in self.config.anchor_sizes
                 for ratio in self.config.anchor_ratios]  # fmt: skip
        return tf.constant([[-width / 2, -height / 2, width / 2, height / 2] for width, height in sides], dtype)

    def call(self, x):
        """Returns logits (batch, rows, columns, anchors) and deltas (batch, rows, columns, 4·anchors)."""
        hidden = tf.nn.relu(self.conv(x))
        return self.objectness_logits(hidden), self.anchor_deltas(hidden)


class BoxPredictor(keras.layers.Layer):
    """Predicts a region's class, a box for each class, and, given the likeliest class, its attribute."""

    def __init__(self, config: DetectorConfig, **kwargs):
        super().__init__(**kwargs)
        self.width = config.feature_size
        boxes = 4 if config.class_agnostic_boxes else 4 * config.num_objects

        def dense(units, name, scale=None):
            initializer = keras.initializers.RandomNormal(stddev=scale) if scale else "he_normal"
            return keras.layers.Dense(units, kernel_initializer=initializer, dtype=self.dtype_policy, name=name)

        self.cls_score = dense(config.num_objects + 1, "cls_score", 0.01)
        self.bbox_pred = dense(boxes, "bbox_pred", 0.001)
        self.cls_embedding = keras.layers.Embedding(
            config.num_objects + 1, self.width // 8, dtype=self.dtype_policy, name="cls_embedding"
        )
        self.fc_attr = dense(self.width // 4, "fc_attr")
        self.attr_score = dense(config.num_attributes + 1, "attr_score")

    def build(self, input_shape=None):
        for layer in (self.cls_score, self.bbox_pred):
            layer.build((None, self.width))
        self.cls_embedding.build((None,))
        self.fc_attr.build((None, self.width + self.width // 8))
        self.attr_score.build((None, self.width // 4))

    def call(self, features, classes=None):
        """Computes the logits for features (n, width).

        Args:
            features: the features of the regions.
            classes: (n,) the class whose embedding the attribute depends on; None: the likeliest, also "background".

        Returns:
            Logits of objects (n, num_objects + 1) and attributes (n, num_attributes + 1), the last one "none", and box
            deltas (n, classes, 4), with a single class if boxes are class-agnostic.
        """
        objects = self.cls_score(features)
        deltas = self.bbox_pred(features)
        classes = tf.argmax(objects, axis=1, output_type=tf.int32) if classes is None else classes
        hidden = self.fc_attr(tf.concat([features, self.cls_embedding(classes)], axis=1))
        attributes = self.attr_score(tf.nn.relu(hidden))
        return objects, attributes, tf.reshape(deltas, [-1, deltas.shape[1] // 4, 4])
