"""What the REST and gRPC interfaces share: they look up a model, run a request, and report the models' states."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse, ModelVersionStatus
from tensorflow_serving.apis.status_pb2 import StatusProto

from tfvl.serving.client.errors import RequestError, invalid
from tfvl.serving.server.limits import IN_FLIGHT, Budget
from tfvl.serving.server.metrics import Metrics
from tfvl.serving.server.repository import Repository, Version, servable_not_found
from tfvl.serving.server.servable import DEFAULT_SIGNATURE, Tensors, check_inputs

_UNKNOWN_ERROR = 2  # tensorflow.error.Code


class Service:
    """The models of a server, by name. A name in a request is looked up here, never in the file system.

    Attributes:
        max_bytes: the largest size of a request, and of its tensors.
        budget: the memory that all requests under way may take.
    """

    def __init__(self, repositories: list[Repository], metrics: Metrics, *, max_bytes: int):
        self._repositories = {repository.name: repository for repository in repositories}
        self.metrics, self.max_bytes, self.budget = metrics, max_bytes, Budget(IN_FLIGHT * max_bytes)

    @property
    def names(self) -> list[str]:
        """The names of the models, in their order."""
        return list(self._repositories)

    def lease(self, name: str, number: int | None = None, label: str = "") -> AbstractContextManager[Version]:
        """Lends a version, as `Repository.lease` does. Raises RequestError for a model that is not served."""
        if name not in self._repositories:
            raise servable_not_found(name, number)
        return self._repositories[name].lease(number, label)

    @contextmanager
    def counted(self, name: str, entrypoint: str) -> Iterator[None]:
        """Counts a Predict request in the metrics, unless it names a model that is not served."""
        start, code = time.monotonic(), "OK"
        try:
            yield
        except RequestError as error:
            code = error.code
            raise
        except Exception:
            code = "INTERNAL"
            raise
        finally:
            known = name if name in self._repositories else ""
            self.metrics.request(known, code, entrypoint, time.monotonic() - start)

    @contextmanager
    def expanding(self, nbytes: int) -> Iterator[None]:
        """Holds a part of the budget for a request's tensors. Raises RequestError if they are too large."""
        if nbytes > self.max_bytes:
            raise invalid(f"the request's tensors take {nbytes} bytes, at most {self.max_bytes} are taken")
        with self.budget.holding(nbytes):
            yield

    def status(self, name: str, number: int | None = None, label: str = "") -> GetModelStatusResponse:
        """Returns the states of a model's versions, or of one. Raises RequestError if there are none."""
        versions = self._repositories[name].versions() if name in self._repositories else []
        if label:
            with self.lease(name, label=label) as version:
                number = version.number
        if not versions:
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {name}")
        if number is not None:
            versions = [version for version in versions if version.number == number]
        if not versions:
            raise RequestError("NOT_FOUND", f"Could not find version {number} of model {name}")
        return GetModelStatusResponse(model_version_status=[_version_status(version) for version in versions])

    def metadata(self, name: str, number: int | None = None, label: str = "") -> GetModelMetadataResponse:
        """Returns the signatures of a model."""
        with self.lease(name, number, label) as version:
            response = GetModelMetadataResponse()
            response.model_spec.name = name
            response.model_spec.version.value = version.number
            response.metadata["signature_def"].Pack(SignatureDefMap(signature_def=version.servable.signatures))
            return response


def signature_of(version: Version, name: str) -> SignatureDef | None:
    return version.servable.signatures.get(name or DEFAULT_SIGNATURE)


def predict(
    version: Version,
    signature_name: str,
    inputs: Tensors,
    output_filter: tuple[str, ...] = (),
    wanted: Callable[[], bool] = lambda: True,
) -> dict:
    """Runs a version and returns its outputs, all or those of `output_filter`. Raises RequestError."""
    name = signature_name or DEFAULT_SIGNATURE
    signature = version.servable.signatures[name]
    check_inputs(signature, inputs)
    for output in output_filter:
        if output not in signature.outputs:
            names = ",".join(sorted(signature.outputs))
            raise invalid(
                f"output tensor alias not found in signature: {output} Outputs expected to be in the set {{{names}}}."
            )
        if output_filter.count(output) > 1:
            raise invalid(f"duplicate output tensor alias: {output}")
    outputs = tuple(output_filter) or tuple(sorted(signature.outputs))
    return version.predict(name, inputs, outputs, wanted)


def _version_status(version: Version) -> ModelVersionStatus:
    code = _UNKNOWN_ERROR if version.failed else 0
    return ModelVersionStatus(
        version=version.number,
        state=ModelVersionStatus.State.Value(version.state),
        status=StatusProto(error_code=code, error_message=version.problem),
    )
