# SPDX-License-Identifier: Apache-2.0
# What the backend says while it runs is part of the sentence, and it is said once.
kiln run gather.onnx -i 7
