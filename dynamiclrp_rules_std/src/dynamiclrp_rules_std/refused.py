"""Nodes that relevance does not pass, with the reason and the cure. (CTC of other devices: ``loss``.)"""

from __future__ import annotations

from dynamiclrp_core.refusal import refused

# ``<name>BackwardBackward0``: the derivative of a gradient.
_OF_GRADIENTS = """AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AdaptiveMaxPool3D AvgPool2D AvgPool3D
    BatchNorm BinaryCrossEntropy Cdist Convolution CudnnBatchNorm CudnnGridSampler CudnnRnn
    Diagonal Elu EmbeddingBag EmbeddingBagDense EmbeddingDense FractionalMaxPool2D
    FractionalMaxPool3D Gelu Glu GridSampler2D GridSampler2DCpuFallback GridSampler3D Hardshrink
    Hardswish Hardtanh HuberLoss LeakyRelu Linear LogSigmoid MaskedScatter MaxPool2D
    MaxPool2DWithIndices MaxPool3DWithIndices MiopenBatchNorm MpsConvolution MseLoss
    NativeBatchNorm NativeDropout NativeLayerNorm NllLoss2D NllLoss Pdist PreluKernel
    ReflectionPad1D ReflectionPad2D ReflectionPad3D ReplicationPad1D ReplicationPad2D
    ReplicationPad3D RreluWithNoise Select Sigmoid Slice SlowConv2D SmoothL1Loss SoftMarginLoss
    Softplus Softshrink Tanh Threshold Unfold UpsampleBicubic2DAa UpsampleBicubic2D
    UpsampleBilinear2DAa UpsampleBilinear2D UpsampleLanczos2DAa UpsampleLinear1D
    UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleNearestExact1D
    UpsampleNearestExact2D UpsampleNearestExact3D UpsampleTrilinear3D""".split()

ROWS = (
    *refused(
        """ChunkBackwardAutogradNestedTensor0 MeanBackwardAutogradNestedTensor0 NestedFromPaddedBackward0
        NestedFromPaddedTensorBackward0 NestedGetValuesBackward0 NestedGetValuesBackward0_copy
        NestedTensorFromMaskBackward0 NestedTensorFromTensorListBackward0 NestedViewFromBufferBackward0
        NestedViewFromBufferBackward0_copy NestedViewFromJaggedBackward0
        NestedViewFromJaggedBackward0_copy SelectBackwardAutogradNestedTensor0
        SelectBackwardAutogradNestedTensor0_copy SplitWithSizesBackwardAutogradNestedTensor0
        SplitWithSizesBackwardAutogradNestedTensor0_copy SqueezeBackwardAutogradNestedTensor0
        SqueezeBackwardAutogradNestedTensor0_copy SqueezeBackwardAutogradNestedTensor1
        SqueezeBackwardAutogradNestedTensor1_copy SumBackwardAutogradNestedTensor0
        SumBackwardAutogradNestedTensor1 ToPaddedTensorBackward0 UnbindBackwardAutogradNestedTensor0
        UnbindBackwardAutogradNestedTensor0_copy ValuesBackwardAutogradNestedTensor0
        ValuesBackwardAutogradNestedTensor0_copy ViewBackwardAutogradNestedTensor0
        ViewBackwardAutogradNestedTensor0_copy""",
        "a nested tensor has no one shape, so relevance cannot be added up and reduced along its edges",
        "run the model on padded tensors with a mask, or on each sequence alone",
    ),
    *refused(
        """SparseLogSoftmaxBackward0 SparseMmReduceImplBackward0 SparseSampledAddmmBackward0
        SparseSoftmaxBackward0""",
        "what is not stored in its sparse tensor counts as absent, not as 0, so that it is no function of "
        "the dense tensor that relevance belongs to",
        "run it on a dense tensor, or on the stored values with scatter_reduce",
    ),
    *refused(
        """MkldnnAdaptiveAvgPool2DBackward0 MkldnnMaxPool2DBackward0 MkldnnMaxPool3DBackward0
        MkldnnReshapeBackward0 ToMkldnnBackward0""",
        "the tensors are in oneDNN's opaque layout, whose entries cannot be read",
        "explain the model without to_mkldnn()",
    ),
    *refused(
        "CudnnRnnBackward0 MiopenRnnBackward0 LstmMpsBackward0",
        "one kernel runs all layers and steps, and keeps neither the states between nor the dropout masks",
        "run the forward under torch.backends.cudnn.flags(enabled=False), which builds a node per step",
    ),
    *refused(
        "ChunkBackward0 SliceInverseBackward0",
        "torch makes it inside of its own machinery only (functionalisation, nested tensors)",
        "explain the eager model",
    ),
    *refused(
        "NotImplemented",
        "a call that torch cannot differentiate (heaviside, nextafter ...), and autograd does not tell which "
        "nor keep its operands",
        "write it with torch.where, or detach what it gives",
    ),
    *refused(
        "AcoshBackward1 AsinhBackward1 AtanhBackward1",
        "torch itself does not differentiate the in-place form",
        "write it out of place",
    ),
    *refused(
        """GeqrfBackward0 UniqueBackward0 UniqueDimBackward0 UniqueConsecutiveBackward0
        UniqueDimConsecutiveBackward0 SpecialZetaBackward2""",
        "torch itself does not differentiate it",
        "detach what it gives, or use a form that torch differentiates (linalg.qr, unique without dim)",
    ),
    *refused(
        "FusedMovingAvgObsFqHelperBackward0",
        "its observer changes the grid in the call, and neither grid nor output is kept",
        "use torch.ao.quantization.FakeQuantize in its place, or the model without fake quantisation",
    ),
    *refused(
        "RreluWithNoiseFunctionalBackward0",
        "torch's own gradient of it takes the noise from before it is drawn",
        "use torch.nn.functional.rrelu",
    ),
    *refused(
        "NextafterBackward0",
        "it is its first operand but for the last digit, and keeps neither operand",
        "use the operand itself",
    ),
    *refused(
        "ConjBackward0_copy ViewAsComplexBackward0_copy",
        "torch itself does not differentiate copies that are complex",
        "use the view: conj(), view_as_complex()",
    ),
    # -- not of a forward -------------------------------------------------------------------------------
    *refused(
        """TestAutogradMultipleDispatchBackward0 TestAutogradMultipleDispatchBackwardAutogradCUDA0
        TestAutogradMultipleDispatchBackwardAutogradNestedTensor0
        TestAutogradMultipleDispatchBackwardAutogradNestedTensor1
        TestAutogradMultipleDispatchViewBackward0 TestAutogradMultipleDispatchViewBackward0_copy
        TestAutogradMultipleDispatchViewBackwardAutogradCUDA0
        TestAutogradMultipleDispatchViewBackwardAutogradCUDA0_copy TestWarnInAutogradBackward0""",
        "torch's own test suite builds it",
        "none needed: no model contains it",
    ),
    *refused(
        " ".join(f"{name}BackwardBackward0" for name in _OF_GRADIENTS)
        + """ ConvolutionBackwardOverrideableBackward0 LogSoftmaxBackwardDataBackward0
        SoftmaxBackwardDataBackward0""",
        "it is part of a gradient's own graph (create_graph=True), not of a forward",
        "explain the output of the model, not a gradient of it",
    ),
)
