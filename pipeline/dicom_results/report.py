"""The structured report of a study: TID 1500, Comprehensive 3D SR."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from haemo.pipeline.dicom_results.codes import (
    ABSENT,
    BRAIN,
    COMMENT,
    CT_OF_HEAD,
    HAEMORRHAGE,
    MILLILITRE,
    NO_UNIT,
    PRESENT,
    PROBABILITY,
    THRESHOLD,
    VOLUME,
    code,
    new_uid,
)
from haemo.pipeline.dicom_results.finding import ModelIdentity, SeriesFinding
from haemo.pipeline.dicom_results.segmentation import SEGMENT

if TYPE_CHECKING:
    from highdicom.sr import Comprehensive3DSR
    from pydicom.dataset import Dataset

__all__ = ["RESEARCH_USE", "report"]

RESEARCH_USE = "Research use only: made by software that is no medical device; not for diagnosis."
_DESCRIPTION = "AI haemorrhage report, research use only"


def report(
    findings: Sequence[SeriesFinding],
    outlines: Sequence["Dataset | None"],
    trackings: Sequence[tuple[str, str]],
    model: ModelIdentity,
    number: int,
    previous: "Dataset | None" = None,
) -> "Comprehensive3DSR":
    """Make the report of a study.

    Each series has a measurement group with the answer (present or absent), probability and threshold; one
    for each key image; and, where it has outlines, one with their volume that refers to the segmentation.

    Parameters
    ----------
    findings : sequence of SeriesFinding
        All of one study.
    outlines : sequence of Dataset or None
        The segmentation of each.
    trackings : sequence of tuple of str
        UID and name under which the outlines of each are known.
    model : ModelIdentity
    number : int
        Series Number.
    previous : Dataset, optional
        An earlier report of the study, which this one takes the place of.
    """
    from highdicom.sr import Comprehensive3DSR, MeasurementReport
    from pydicom.sr.codedict import codes

    groups, shown = [], []
    for finding, segmented, tracking in zip(findings, outlines, trackings, strict=True):
        images = finding.series.headers
        # The image library says where images lie; those without a place are in the evidence alone.
        shown += [images[place] for place in finding.key_images() if "FrameOfReferenceUID" in images[place]]
        groups.append(_answer(finding, model))
        groups += [_key_image(finding, place) for place in finding.key_images() if finding.positive]
        if segmented is not None:
            groups.append(_outlined(finding, segmented, tracking, model))
    content = MeasurementReport(
        observation_context=_observer(model),
        procedure_reported=code(CT_OF_HEAD),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
        referenced_images=shown or None,
    )
    evidence = [image for finding in findings for image in finding.series.headers]
    evidence += [each for each in outlines if each is not None]
    return Comprehensive3DSR(
        evidence=evidence,
        content=content[0],
        series_instance_uid=new_uid(),
        series_number=number,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer="haemo",
        manufacturer_model_name=model.name,
        software_versions=model.version,
        device_serial_number=model.version,
        series_description=_DESCRIPTION,
        is_complete=True,
        previous_versions=None if previous is None else [previous],
    )


def _observer(model: ModelIdentity) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    digest = hashlib.sha256(f"haemo model {model.name} {model.version}".encode()).digest()
    device = DeviceObserverIdentifyingAttributes(
        uid=f"2.25.{int.from_bytes(digest[:15], 'big')}",
        name=model.name,
        manufacturer_name="haemo",
        model_name=model.name,
        serial_number=model.version,
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _algorithm(name: str, version: str) -> Any:
    from highdicom.sr import AlgorithmIdentification
    from pydicom.sr.codedict import codes

    return AlgorithmIdentification(
        name=name, version=version, parameters=[RESEARCH_USE], family=codes.DCM.ArtificialIntelligence
    )


def _measured(term: tuple[str, str, str], value: float, unit: tuple[str, str, str]) -> Any:
    from highdicom.sr import Measurement

    return Measurement(name=code(term), value=round(value, 6), unit=code(unit))


def _named(finding: SeriesFinding) -> str:
    number = finding.series.number
    return "series" if number is None else f"series {number}"


def _answer(finding: SeriesFinding, model: ModelIdentity) -> Any:
    """The answer for the series; where it is "absent" no finding stands that could be taken for one."""
    from highdicom.sr import (
        FindingSite,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        TrackingIdentifier,
    )

    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(new_uid(), f"answer, {_named(finding)}"),
        finding_type=code(HAEMORRHAGE) if finding.positive else None,
        finding_sites=[FindingSite(code(BRAIN))],
        algorithm_id=_algorithm(model.name, model.version),
        measurements=[
            _measured(PROBABILITY, finding.probability, NO_UNIT),
            _measured(THRESHOLD, finding.threshold, NO_UNIT),
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(code(HAEMORRHAGE), code(PRESENT if finding.positive else ABSENT))
        ],
    )
    said = f"{_named(finding)}, {finding.summary()} {RESEARCH_USE}"
    _comment(group, f"{said} {model.caveat}.".strip() if model.caveat else said)
    return group


def _key_image(finding: SeriesFinding, place: int) -> Any:
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    image = finding.series.headers[place]
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            new_uid(), f"key image {finding.key_images().index(place) + 1}, {_named(finding)}"
        ),
        finding_type=code(HAEMORRHAGE),
        measurements=[_measured(PROBABILITY, finding.slice_probabilities[place], NO_UNIT)],
        source_images=[SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)],
    )


def _outlined(
    finding: SeriesFinding, segmented: "Dataset", tracking: tuple[str, str], model: ModelIdentity
) -> Any:
    from highdicom.sr import (
        FindingSite,
        ReferencedSegment,
        SourceSeriesForSegmentation,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )

    measured = [] if finding.volume_ml is None else [_measured(VOLUME, finding.volume_ml, MILLILITRE)]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(*tracking),
        referenced_segment=ReferencedSegment(
            segmented.SOPClassUID,
            segmented.SOPInstanceUID,
            SEGMENT,
            source_series=SourceSeriesForSegmentation(finding.series.series_uid),
        ),
        finding_type=code(HAEMORRHAGE),
        finding_sites=[FindingSite(code(BRAIN))],
        algorithm_id=_algorithm(model.outliner, model.outliner_version),
        measurements=measured,
    )


def _comment(group: Any, text: str) -> None:
    from highdicom.sr import RelationshipTypeValues, TextContentItem

    item = TextContentItem(name=code(COMMENT), value=text, relationship_type=RelationshipTypeValues.CONTAINS)
    group[0].ContentSequence.append(item)
