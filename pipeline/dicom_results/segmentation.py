"""The outlines of a series as a DICOM segmentation: one segment, on the frames of the source images."""

from typing import TYPE_CHECKING

import numpy as np

from haemo.features.reading.orientation import seen_as
from haemo.pipeline.dicom_results.codes import BRAIN, HAEMORRHAGE, MORPHOLOGICALLY_ABNORMAL, code, new_uid
from haemo.pipeline.dicom_results.finding import ModelIdentity, SeriesFinding

if TYPE_CHECKING:
    from highdicom.seg import Segmentation

__all__ = ["SEGMENT", "segmentation"]

SEGMENT = 1
"""Number of the segment."""

_DESCRIPTION = "AI haemorrhage outlines, research use only"


def segmentation(
    finding: SeriesFinding, model: ModelIdentity, number: int, tracking: tuple[str, str]
) -> "Segmentation":
    """Make the segmentation of a series that has outlines.

    Only slices with an outline become frames; each refers to the image that it was drawn on, and lies where
    that lies, in the same frame of reference.

    Parameters
    ----------
    finding : SeriesFinding
    model : ModelIdentity
    number : int
        Series Number.
    tracking : tuple of str
        UID and name under which the report speaks of the same outlines.
    """
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    slices = sorted(finding.masks)
    # Outlines lie on slices as they are seen, and images may be stored in another way; all lie alike.
    axes = np.array(finding.series.headers[slices[0]].ImageOrientationPatient, dtype=float)
    view = seen_as(right=axes[:3], down=axes[3:])
    algorithm = AlgorithmIdentificationSequence(
        name=model.outliner, family=codes.DCM.ArtificialIntelligence, version=model.outliner_version
    )
    segment = SegmentDescription(
        segment_number=SEGMENT,
        segment_label=HAEMORRHAGE[2],
        segmented_property_category=code(MORPHOLOGICALLY_ABNORMAL),
        segmented_property_type=code(HAEMORRHAGE),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=tracking[0],
        tracking_id=tracking[1],
        anatomic_regions=[code(BRAIN)],
    )
    return Segmentation(
        source_images=[finding.series.headers[place] for place in slices],
        pixel_array=np.stack([view.turn_back(finding.masks[place].unpack()) for place in slices]),
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        series_instance_uid=new_uid(),
        series_number=number,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer="haemo",
        manufacturer_model_name=model.outliner,
        software_versions=model.outliner_version,
        device_serial_number=model.outliner_version,
        content_label="HAEMORRHAGE",
        content_description=_DESCRIPTION,
        series_description=_DESCRIPTION,
    )
